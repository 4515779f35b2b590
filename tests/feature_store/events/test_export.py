"""The exported tables: the team's rows untouched, live rows behind them, readable by everything that reads tables."""

import datetime as dt

import polars as pl
import pytest

from feature_store.errors import EventLogGapError, ExportError
from feature_store.events.export import Exported, export_events
from feature_store.events.log import LogEntry, LogReading
from feature_store.events.served import Unserved
from feature_store.materialize import user_histories
from feature_store.table_problems import TablesInvalidError
from feature_store.tables import HISTORY_EVENT, ITEM_KEY, REQUEST, SERVED, TIME, USER_KEY, label_column, read_tables
from feature_store.views import load_views
from tests.feature_store.events.logged import EVENTS, event_shop, logged, reading_of, write_event_shop
from tests.feature_store.shop_tables import INTERACTIONS, shop_views, write_shop, write_shop_as_parquet

SHOWN = logged(1, "impression", item="b", time=10.0, version=1, request_id="r1", history_version=1, context={"hour": 9})
CLICK = logged(2, "click", item="b", time=11.0, version=2, entered=True, request_id="r1")
AGAIN = logged(3, "impression", item="new", time=12.0, version=2, request_id="r2", history_version=2, context={"hour": "x"})
REVIEW = logged(4, "review", user="07", item="c", time=13.0, version=0, value=5.0)
LOG = (SHOWN, CLICK, AGAIN, REVIEW)


def export(folder, *events, views=None, **options):
    """Export and read back: what was done, and the new views and tables."""
    done = export_events(write_event_shop(folder, views), folder / "out", reading_of(*events), **options)
    return done, *read_back(folder / "out")


def read_back(out):
    views = load_views(out / "views.yaml")
    return views, read_tables(views, out)


def test_live_rows_stand_behind_the_teams_own(tmp_path):
    done, views, tables = export(tmp_path, *LOG)
    base = read_tables(event_shop(), tmp_path)
    assert done == Exported(events=4, examples=3, served=2, unserved={}, refused_values=0, gaps=())
    rows = tables.interactions
    assert rows.head(4).drop(SERVED).equals(base.interactions)
    assert rows[SERVED].to_list() == [None] * 4 + [["a"], None, ["a", "b"], None]
    live = rows.tail(4)
    assert live[USER_KEY].to_list() == ["01", "01", "01", "07"]
    assert live[ITEM_KEY].to_list() == ["b", "b", "new", "c"]
    assert live[TIME].to_list() == [10, 11, 12, 13]
    assert live[HISTORY_EVENT].to_list() == [False, True, False, False]
    assert live[label_column("ctr")].to_list() == [1.0, None, 0.0, None]
    assert live[label_column("like")].to_list() == [None, None, None, 1.0]
    assert live["hour"].to_list() == ["9", None, "x", None]
    assert tables.users.equals(base.users)
    assert tables.items.equals(base.items)
    assert (views.labels, views.events, views.history.length) == (event_shop().labels, event_shop().events, 5)


def test_the_next_materialization_makes_the_history_that_the_store_has(tmp_path):
    _, views, tables = export(tmp_path, *LOG)
    histories = {user: items for user, items, *_ in user_histories(tables, views.history.length).iter_rows()}
    assert histories["01"] == ["a", "b"]
    assert (histories["02"], histories["03"]) == (None, ["c"])


def test_parquet_tables_keep_their_types(tmp_path):
    write_shop_as_parquet(tmp_path)
    path = write_event_shop(
        tmp_path, event_shop(tables={name: f"{name}.parquet" for name in ("interactions", "users", "items")})
    )
    before = pl.read_parquet(tmp_path / "interactions.parquet")
    export_events(path, tmp_path / "out", reading_of(*LOG))
    after = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    assert {name: after.schema[name] for name in ("at", "clicked", "stars")} == dict(
        before.select("at", "clicked", "stars").schema
    )
    assert after["clicked"].to_list() == [True, False, None, True, True, None, False, None]


def test_a_team_with_requests_gets_one_for_every_row(tmp_path):
    head, *rows = INTERACTIONS.splitlines()
    text = "\n".join([f"{head},req", *(f"{row},q{place}" for place, row in enumerate(rows))]) + "\n"
    path = write_event_shop(tmp_path, event_shop(interactions={"time": "at", "request": "req"}), interactions=text)
    export_events(path, tmp_path / "out", reading_of(*LOG))
    requests = read_back(tmp_path / "out")[1].interactions[REQUEST].to_list()
    assert requests[:7] == ["q0", "q1", "q2", "q3", "r1", "r1", "r2"]
    assert requests[7].startswith("event-")


def test_an_export_can_be_exported_again(tmp_path):
    export(tmp_path, SHOWN, CLICK)
    following = LogReading([LogEntry("1-3", 3, AGAIN), LogEntry("1-4", 4, REVIEW)], 2, 4)
    export_events(tmp_path / "out" / "views.yaml", tmp_path / "next", following)
    export_events(write_event_shop(tmp_path), tmp_path / "whole", reading_of(*LOG))
    views, tables = read_back(tmp_path / "next")
    assert tables.interactions.equals(read_back(tmp_path / "whole")[1].interactions)
    assert (views.history.where.column, views.interactions.served_history) == ("in_history", "served_history")


def test_a_gap_is_refused_with_its_numbers_unless_it_is_allowed(tmp_path):
    with pytest.raises(EventLogGapError, match="event 2 is missing before entry 1-3"):
        export(tmp_path, SHOWN, AGAIN)
    assert not (tmp_path / "out").exists()
    done, *_ = export(tmp_path, SHOWN, AGAIN, allow_gap=True)
    assert done.gaps == ("event 2 is missing before entry 1-3",)
    assert done.events == 2


def test_a_value_that_its_field_refuses_is_missing_and_counted(tmp_path):
    odd = logged(1, "impression", history_version=0, context={"hour": 7.5, "no-field": 1})
    done, _, tables = export(tmp_path, odd)
    assert done.refused_values == 1
    assert tables.interactions["hour"][-1] is None


def test_what_is_there_is_never_overwritten_and_a_failure_leaves_nothing(tmp_path):
    path = write_event_shop(tmp_path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    for out in (tmp_path, path):
        with pytest.raises(ExportError, match="there is something already"):
            export_events(path, out, reading_of(*LOG))
    with pytest.raises(ExportError, match=r"would not be usable:\ninteractions\.parquet, row 5, column item_id"):
        export_events(path, tmp_path / "out", reading_of(logged(1, item="\u200b")))
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    (tmp_path / "empty").mkdir()
    export_events(path, tmp_path / "empty", reading_of(*LOG))
    assert sorted(each.name for each in (tmp_path / "empty").iterdir()) == [
        "interactions.parquet",
        "items.parquet",
        "users.parquet",
        "views.yaml",
    ]


def test_no_live_event_gives_the_teams_tables(tmp_path):
    done, _, tables = export(tmp_path)
    assert done.events == 0
    assert tables.interactions.drop(SERVED).equals(read_tables(event_shop(), tmp_path).interactions)


def test_views_without_events_and_broken_tables_are_refused(tmp_path):
    with pytest.raises(ExportError, match="declare no events"):
        export_events(write_event_shop(tmp_path, shop_views()), tmp_path / "out", reading_of())
    path = write_event_shop(tmp_path)
    write_shop(tmp_path, users="user_id\n")
    with pytest.raises(TablesInvalidError):
        export_events(path, tmp_path / "out", reading_of())


def test_date_times_stay_date_times_where_live_times_are_microseconds(tmp_path):
    write_shop_as_parquet(tmp_path)
    moments = [dt.datetime(2026, 1, 1, 0, 0, second) for second in range(4)]
    table = tmp_path / "interactions.parquet"
    pl.read_parquet(table).with_columns(at=pl.Series(moments)).write_parquet(table)
    tables = {name: f"{name}.parquet" for name in ("interactions", "users", "items")}
    path = write_event_shop(tmp_path, event_shop(tables=tables, events={**EVENTS, "time_resolution": "us"}))
    time = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC).timestamp()
    export_events(path, tmp_path / "out", reading_of(logged(1, time=time)))
    written = pl.read_parquet(tmp_path / "out" / "interactions.parquet")["at"]
    assert written.to_list() == [*moments, dt.datetime(2026, 1, 2, 3, 4, 5, 678_901)]
    assert read_back(tmp_path / "out")[1].interactions[TIME][-1] == time


def test_an_event_that_the_tables_hold_as_well_is_one_event_of_the_history(tmp_path):
    known = logged(1, "click", user="01", item="a", time=1.0, version=1, entered=True)
    after = logged(2, "impression", time=20.0, version=1, history_version=1)
    _, views, tables = export(tmp_path, known, after)
    assert tables.interactions[HISTORY_EVENT].tail(2).to_list() == [False, False]
    assert tables.interactions[SERVED][-1].to_list() == ["a"]
    histories = {user: items for user, items, *_ in user_histories(tables, views.history.length).iter_rows()}
    assert histories["01"] == ["a"]


NEXT_DAY = INTERACTIONS + "01,b,11,1,,\n01,c,12,1,,\n"
CLICKS = [
    SHOWN,
    logged(2, "click", item="b", time=11.0, version=2, entered=True, request_id="r1"),
    logged(3, "click", item="c", time=12.0, version=3, entered=True),
]


def export_with(folder, interactions, *events):
    path = write_event_shop(folder, interactions=interactions)
    done = export_events(path, folder / "out", reading_of(*events))
    return done, read_back(folder / "out")[1].interactions


def test_tables_of_a_later_day_put_no_later_event_into_a_served_history(tmp_path):
    done, rows = export_with(tmp_path, NEXT_DAY, *CLICKS)
    assert rows[SERVED].tail(3).to_list() == [["a"], None, None]
    assert rows[HISTORY_EVENT].tail(3).to_list() == [False] * 3
    assert (done.served, dict(done.unserved)) == (1, {})


@pytest.mark.parametrize("extra", ["01,x,10,1,,\n", "01,x,0,1,,\n"])
def test_events_of_the_tables_that_the_log_lacks_leave_the_history_to_the_time(extra, tmp_path):
    done, rows = export_with(tmp_path, NEXT_DAY + extra, *CLICKS)
    assert rows[SERVED].tail(3).to_list() == [None] * 3
    assert (done.served, dict(done.unserved)) == (0, {Unserved.TABLES_AHEAD: 1})


def test_a_newer_event_in_the_place_of_one_that_left_the_tables_is_found_by_its_time(tmp_path):
    done, rows = export_with(tmp_path, INTERACTIONS.replace("01,a,1,", "01,x,10,"), *CLICKS)
    assert rows[SERVED].tail(3).to_list() == [None] * 3
    assert dict(done.unserved) == {Unserved.TABLES_AHEAD: 1}


def test_a_version_above_the_logs_own_is_the_clients_error(tmp_path):
    wrong = logged(4, "impression", time=13.0, version=3, history_version=4)
    itself = logged(5, "review", time=14.0, version=4, entered=True, value=5.0, history_version=4)
    done, rows = export_with(tmp_path, INTERACTIONS, *CLICKS, wrong, itself)
    assert rows[SERVED].tail(5).to_list() == [["a"], None, None, None, None]
    assert dict(done.unserved) == {Unserved.VERSION_AHEAD: 2}


def test_a_user_whose_event_was_applied_twice_has_no_served_histories(tmp_path):
    again = logged(4, "click", item="b", time=11.0, version=1, entered=True, event_id="e2")
    done, rows = export_with(tmp_path, INTERACTIONS, *CLICKS, again)
    assert rows[SERVED].tail(3).to_list() == [None] * 3
    assert dict(done.unserved) == {Unserved.UNACCOUNTED: 1}
