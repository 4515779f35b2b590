"""One column out of two kinds of values: in a type that means the same of both, or refused."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.errors import ExportError
from feature_store.events.export_columns import context_values, joined_column, time_column_with
from feature_store.views import ContextCategories, ContextCategory, ContextNumber


@pytest.mark.parametrize(
    ("base", "live", "dtype", "values"),
    [
        (pl.Series(["0", None]), [1, 2.5, True, None, 4.0], pl.String, ["0", None, "1", "2.5", "true", None, "4"]),
        (pl.Series([0, None]), [1, None, True], pl.Int64, [0, None, 1, None, 1]),
        (pl.Series([0, 5]), [4.0], pl.Int64, [0, 5, 4]),
        (pl.Series([0, 5]), [4.5], pl.Float64, [0.0, 5.0, 4.5]),
        (pl.Series([True, None]), [0, 1.0, True], pl.Boolean, [True, None, False, True, True]),
        (pl.Series([True, False]), [3], pl.Int64, [1, 0, 3]),
        (pl.Series([0.5], dtype=pl.Float32), [1], pl.Float64, [0.5, 1.0]),
        (pl.Series([3], dtype=pl.Int8), [1_000], pl.Int64, [3, 1_000]),
        (pl.Series(["a"], dtype=pl.Categorical), ["b"], pl.String, ["a", "b"]),
        (pl.Series([None, None], dtype=pl.Null), ["x"], pl.String, [None, None, "x"]),
        (pl.Series([None], dtype=pl.Null), [True, None], pl.Boolean, [None, True, None]),
        (pl.Series([None], dtype=pl.Null), [True, 2], pl.Int64, [None, 1, 2]),
        (pl.Series([3], dtype=pl.Int8), [None], pl.Int8, [3, None]),
        (pl.Series([None], dtype=pl.Boolean), ["x"], pl.String, [None, "x"]),
        (pl.Series([None], dtype=pl.Null), [None], pl.Null, [None, None]),
        (pl.Series([[1]]), [None], pl.List(pl.Int64), [[1], None]),
    ],
)
def test_the_type_holds_both(base, live, dtype, values):
    column = joined_column("stars", base, live)
    assert (column.name, column.dtype, column.to_list()) == ("stars", dtype, values)


@pytest.mark.parametrize(
    ("base", "live", "reason"),
    [
        (pl.Series([1]), ["click"], "holds Int64 there, and live events write text such as 'click'"),
        (pl.Series([True]), ["1"], "holds Boolean there"),
        (pl.Series([[1]]), [1], r"holds List\(Int64\) there, and live events write numbers such as 1"),
        (pl.Series([1]).cast(pl.Date), [1], "holds Date there"),
        (pl.Series([1]).cast(pl.Decimal(5, 2)), [1], "holds Decimal"),
        (pl.Series([1]), [10**400], r"integers beyond 2\*\*53"),
        (pl.Series([1 << 60]), [0.5], r"beyond 2\*\*53"),
        (pl.Series([(1 << 64) - 1], dtype=pl.UInt64), [1], "no type in common"),
        (pl.Series([None], dtype=pl.Null), ["x", 1], "both text and numbers"),
    ],
)
def test_what_has_no_such_type_is_refused(base, live, reason):
    with pytest.raises(ExportError, match=f"column 'stars': .*{reason}"):
        joined_column("stars", base, live)


times = st.one_of(st.integers(-(2**53), 2**53).map(float), st.floats(-1e12, 1e12))


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=5), st.lists(times, max_size=5))
def test_times_keep_their_order_and_integers_stay_integers_if_they_can(base, live):
    raw = pl.Series(base, dtype=pl.Int64)
    joined = time_column_with("at", raw, raw, live)
    assert joined.to_list() == [*base, *live]
    assert (joined.dtype == pl.Int64) == all(time.is_integer() for time in live)


def test_date_times_become_seconds_where_a_live_time_is_finer_than_microseconds():
    raw = pl.Series([0, 1_500_000]).cast(pl.Datetime("us"))
    joined = time_column_with("at", raw, pl.Series([0.0, 1.5]), [2.000_000_25])
    assert joined.to_list() == [0.0, 1.5, 2.000_000_25]


def test_dates_with_a_zone_are_read_as_the_same_moments():
    raw = pl.Series([0]).cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone("Asia/Tokyo")
    joined = time_column_with("at", raw, pl.Series([0.0]), [1.25])
    assert joined.dt.epoch("us").to_list() == [0, 1_250_000]


@pytest.mark.parametrize(
    ("field", "values", "kept", "refused"),
    [
        (ContextCategory(name="f", kind="category"), [7, "7", True, "", None, 7.0, ["a"]], ["7", "7", "true", *[None] * 4], 2),
        (ContextNumber(name="f", kind="number"), [7, 0.5, True, None, "7", float("nan")], [7.0, 0.5, 1.0, *[None] * 3], 1),
        (ContextCategories(name="f", kind="categories"), [["a", 1, ""], [], [""], "a", None], [["a", "1"], *[None] * 4], 1),
    ],
)
def test_context_values_become_the_fields_canonical_column(field, values, kept, refused):
    column, count = context_values(field, values)
    assert (column.to_list(), count) == (kept, refused)
