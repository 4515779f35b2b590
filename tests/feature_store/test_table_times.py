"""Times of tables whose views declare live events: batch and live must have the same time of an event, to the last bit."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.table_checks import check_times
from feature_store.table_columns import RawColumn, time_column
from feature_store.table_problems import ProblemLog, TablesInvalidError
from feature_store.tables import TIME, read_tables
from tests.feature_store.events.logged import EVENTS, event_shop
from tests.feature_store.shop_tables import INTERACTIONS, shop_views, write_shop, write_shop_as_parquet
from tests.feature_store.table_problems_of import problems_of

STEPS_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
UNITS_US = {"s": 1e6, "ms": 1e3, "us": 1.0}


def events_with(**times):
    """The views of the shop, with these rules of time."""
    return event_shop(events={**EVENTS, **times})


def shop_with_times(folder, *times):
    """The shop in Parquet, its four interactions at other times."""
    write_shop_as_parquet(folder)
    frame = pl.read_parquet(folder / "interactions.parquet").with_columns(pl.Series("at", times))
    frame.write_parquet(folder / "interactions.parquet")


def said_of(values, **times):
    """What is said of a column of such times, a line each."""
    log = ProblemLog()
    column = RawColumn("i.parquet", "at", pl.Series("at", values), log)
    check_times(column, time_column(column), events_with(**times).events)
    try:
        log.raise_if_any()
    except TablesInvalidError as refused:
        return [str(problem) for problem in refused.problems]
    return []


def test_a_time_between_the_steps_is_named_with_its_row_its_value_and_the_cure(tmp_path):
    found = problems_of(tmp_path, event_shop(), interactions=INTERACTIONS.replace("02,a,2", "02,a,2.25"))
    assert [place[:3] for place in found] == [("interactions.csv", 3, "at")]
    assert found[0][3].startswith("'2.25' is finer than events.time_resolution (s)")
    assert "events.time_resolution: us" in found[0][3]


def test_the_cure_cures_and_without_events_nothing_is_asked(tmp_path):
    write_shop(tmp_path, interactions=INTERACTIONS.replace("02,a,2", "02,a,2.25"))
    for views in (events_with(time_resolution="us"), events_with(time_resolution="ms"), shop_views()):
        assert read_tables(views, tmp_path).interactions[TIME].to_list() == [1.0, 2.0, 2.25, 5.0]


def test_date_times_with_fractions_are_named_too(tmp_path):
    moments = [datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC) for second in range(3)]
    shop_with_times(tmp_path, *moments, moments[0].replace(microsecond=1))
    with pytest.raises(TablesInvalidError) as refused:
        read_tables(shop_views("parquet", events=EVENTS), tmp_path)
    assert [(problem.row, problem.column) for problem in refused.value.problems] == [(4, "at")]
    assert "2026-01-01 12:00:00.000001" in str(refused.value)
    shop_with_times(tmp_path, *moments, moments[0])
    read_tables(shop_views("parquet", events=EVENTS), tmp_path)


@given(microseconds=st.lists(st.integers(0, 4_000_000_000_000_000), min_size=1))
def test_date_times_become_the_very_seconds_that_live_events_have(microseconds):
    moments = pl.Series("at", microseconds).cast(pl.Datetime("us"))
    column = RawColumn("i.parquet", "at", moments, ProblemLog())
    assert time_column(column).to_list() == [each / 1e6 for each in microseconds]


def test_what_no_resolution_can_tell_is_to_be_rounded():
    (said,) = said_of([1_700_000_000.25, 1_700_000_000.1234567], time_resolution="us")
    assert "row 2, column at: 1700000000.1234567 is finer than microseconds" in said
    assert "round" in said


def test_date_times_are_seconds_so_another_unit_is_refused():
    for values in ([datetime(2026, 1, 1, tzinfo=UTC)], ["2026-01-01T00:00:00Z"]):
        (said,) = said_of(values, time_unit="ms")
        assert "events.time_unit must be s" in said
    assert said_of(["1767225600000", "1767225600000.0"], time_unit="ms") == []


def test_whole_numbers_are_always_on_the_steps():
    for unit in STEPS_US:
        assert said_of([0, 5, 1_767_225_600, -3], time_unit=unit) == []


@given(
    microseconds=st.integers(0, 4_000_000_000_000_000),
    unit_and_step=st.sampled_from([("s", "s"), ("s", "ms"), ("s", "us"), ("ms", "ms"), ("ms", "us"), ("us", "us")]),
)
def test_a_table_that_holds_what_intake_makes_of_its_times_passes_and_no_other_does(microseconds, unit_and_step):
    unit, step = unit_and_step
    floored = (microseconds - microseconds % STEPS_US[step]) / UNITS_US[unit]
    said = said_of([microseconds / UNITS_US[unit]], time_unit=unit, time_resolution=step)
    assert (said == []) == (microseconds / UNITS_US[unit] == floored)
