"""Which logged event is an example, what completes it, and what stays history only."""

import pytest

from feature_store.events.live_rows import live_rows
from tests.feature_store.events.logged import DECLARED, base_of, logged


def columns_of(*events):
    return [dict(row.columns) for row in live_rows(events, DECLARED, {}, 5)]


def test_an_example_is_completed_by_the_later_events_of_its_user_item_and_request():
    shown = logged(1, "impression", request_id="r", time=10)
    found = columns_of(
        shown,
        logged(2, "click", request_id="r", time=12),
        logged(3, "rating", request_id="r", time=11, value=4),
        logged(4, "rating", request_id="r", time=13, value=2),
    )
    assert found == [{"clicked": 1, "stars": 2}, {}, {}, {}]


def test_the_latest_by_its_own_time_wins_however_it_arrived():
    rated = [logged(1, "rating", request_id="r", time=15, value=5), logged(2, "rating", request_id="r", time=12, value=1)]
    assert columns_of(*rated, logged(3, "impression", request_id="r", time=10))[2] == {"clicked": 0, "stars": 5}


@pytest.mark.parametrize(
    "other",
    [
        {"user": "02"},
        {"item": "b"},
        {"request_id": "other"},
        {"request_id": None},
        {"time": 9.5},
        {"kind": "no-longer-declared"},
        {"kind": "impression"},
        {"kind": "review", "value": 5.0},
    ],
)
def test_anything_else_completes_nothing(other):
    click = {"kind": "click", "request_id": "r", "time": 11, **other}
    kind = click.pop("kind")
    assert columns_of(logged(1, "impression", request_id="r", time=10), logged(2, kind, **click))[0] == {"clicked": 0}


def test_an_example_without_a_request_is_completed_by_itself_alone():
    assert columns_of(logged(1, "review", value=3.0), logged(2, "click", time=11)) == [{"stars": 3.0}, {}]


def test_rows_tell_whether_their_own_event_entered_and_what_was_served():
    events = [
        logged(1, "click", item="b", time=5, version=3, entered=True),
        logged(2, "impression", version=3, history_version=3, context={"hour": "7"}),
        logged(3, "impression", version=3, history_version=2),
        logged(4, "impression", version=3),
        logged(5, "click", version=3, history_version=3, context={"hour": "8"}),
    ]
    rows = live_rows(events, DECLARED, {"01": base_of(["x", "y"], [1.0, 2.0])}, 5)
    assert [row.example for row in rows] == [False, True, True, True, False]
    assert [row.in_history for row in rows] == [True, False, False, False, False]
    assert [row.served for row in rows] == [None, ["x", "y", "b"], ["x", "y"], None, None]
    assert [dict(row.context) for row in rows] == [{}, {"hour": "7"}, {}, {}, {}]


def test_events_without_a_request_are_requests_of_their_own():
    rows = live_rows([logged(1), logged(2), logged(3, user="02", event_id="e1"), logged(4, request_id="r")], DECLARED, {}, 5)
    assert len({row.request for row in rows}) == 4
    assert rows[3].request == "r"
    assert [row.request for row in live_rows([logged(1)], DECLARED, {}, 5)] == [rows[0].request]
