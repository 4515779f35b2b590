"""The views' rules for one event: type, value, context, the table's unit of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.events.event import Event, decode_event, encode_event
from service.errors import EventsNotDeclaredError
from service.ingestion.event_rules import EventRules
from service.ingestion.event_size import MAX_EVENT_BYTES
from service.ingestion.event_time import TimeRule
from service.ingestion.received import ReceivedEvent, RefusedEvent
from tests.service.ingestion.stand_ins import make_views

NOW = 1_800_000_000.25
TIME = TimeRule(60.0, 1e6)


def received(**changes):
    return ReceivedEvent(**{"index": 3, "event_id": "e", "user_id": "u", "item_id": "i", "type": "click", **changes})


@pytest.fixture(scope="module")
def rules():
    return EventRules(make_views(), TIME)


def test_an_event_is_kept_with_everything_that_it_said(rules):
    sent = received(
        type="rate", value=4, time=1_799_999_999, request_id="r", history_version=7, context={"page": "home", "hour": 3}
    )
    event = rules.judge(sent, NOW)
    assert isinstance(event, Event)
    assert (event.event_id, event.user_id, event.item_id, event.type) == ("e", "u", "i", "rate")
    assert (event.time, event.received_at, event.value) == (1_799_999_999.0, NOW, 4.0)
    assert (event.request_id, event.history_version, event.context) == ("r", 7, {"page": "home", "hour": 3.0})


@pytest.mark.parametrize(
    ("unit", "resolution", "time"),
    [
        ("s", None, 1_799_999_999),
        ("s", "s", 1_799_999_999),
        ("s", "ms", 1_799_999_999.123),
        ("s", "us", 1_799_999_999.123987),
        ("ms", None, 1_799_999_999_123),
        ("ms", "us", 1_799_999_999_123.987),
        ("us", None, 1_799_999_999_123_987),
    ],
)
def test_a_time_is_exactly_what_the_table_would_hold_at_its_resolution(unit, resolution, time):
    rules = EventRules(make_views(unit, resolution), TIME)
    assert rules.judge(received(time=1_799_999_999.123987), NOW).time == time
    assert rules.judge(received(time="2027-01-15T07:59:59.123987Z"), NOW).time == time


@pytest.mark.parametrize(("unit", "time"), [("s", 1_800_000_000), ("ms", 1_800_000_000_250), ("us", 1_800_000_000_250_750)])
def test_the_servers_own_time_is_floored_too(unit, time):
    now = 1_800_000_000.25075
    rules = EventRules(make_views(unit), TIME)
    for sent in (None, now + 30):  # by default, and in the place of a time that is ahead
        event = rules.judge(received(time=sent), now)
        assert (event.time, event.received_at) == (time, now)


@given(st.integers(0, 1_800_000_000_000_000), st.sampled_from(["s", "ms", "us"]))
def test_what_is_sent_at_the_tables_resolution_is_kept_as_the_table_has_it(moment_us, unit):
    """The union of batch and live compares times exactly."""
    step = {"s": 1_000_000, "ms": 1_000, "us": 1}[unit]
    in_table = moment_us // step
    rules = EventRules(make_views(unit), TimeRule(60.0, None))
    assert rules.judge(received(time=in_table * step / 1e6), NOW).time == in_table


REFUSED = [
    ({"type": "unknown"}, "type", "type"),
    ({"type": "Click"}, "type", "type"),
    ({"type": "rate"}, "value", "value"),
    ({"type": "rate", "value": 10**400}, "value", "value"),
    ({"type": "click", "value": 1}, "value", "value"),
    ({"type": "click", "value": 0}, "value", "value"),
    ({"time": NOW + 61}, "future", "time"),
    ({"time": NOW - 1e6 - 1}, "ancient", "time"),
    ({"time": "yesterday"}, "time", "time"),
    ({"context": {"city": "X"}}, "context", "context.city"),
    ({"context": {"item": 1}}, "context", "context.item"),
    ({"context": {"hour": "3"}}, "context", "context.hour"),
    ({"context": {"hour": float("nan")}}, "context", "context.hour"),
    ({"context": {"price": float("inf")}}, "context", "context.price"),
    ({"context": {"price": 10**400}}, "context", "context.price"),
    ({"context": {"hour": []}}, "context", "context.hour"),
    ({"context": {"page": 1.5}}, "context", "context.page"),
    ({"context": {"page": ["a"]}}, "context", "context.page"),
    ({"context": {"page": {}}}, "context", "context.page"),
    ({"context": {"page": 1 << 200}}, "context", "context.page"),
    ({"context": {"tags": "a"}}, "context", "context.tags"),
    ({"context": {"tags": [True]}}, "context", "context.tags"),
    ({"context": {"tags": [1.5]}}, "context", "context.tags"),
    ({"context": {"tags": [["a"]]}}, "context", "context.tags"),
    ({"context": {"page": "x" * MAX_EVENT_BYTES}}, "size", "(event)"),
    ({"context": {"page": "x" * (MAX_EVENT_BYTES + 1)}}, "size", "context.page"),
]


@pytest.mark.parametrize(("changes", "reason", "field"), REFUSED)
def test_a_broken_rule_is_named(rules, changes, reason, field):
    refused = rules.judge(received(**changes), NOW)
    assert isinstance(refused, RefusedEvent)
    assert (refused.index, refused.reason) == (3, reason)
    assert [problem.field for problem in refused.problems] == [field]


def test_every_broken_rule_is_listed_and_the_declared_types_are_told(rules):
    refused = rules.judge(received(type="nope", time=-1, context={"city": 1, "hour": "x"}), NOW)
    assert [problem.field for problem in refused.problems] == ["type", "time", "context.city", "context.hour"]
    assert "view, click, rate" in refused.problems[0].reason
    assert "nope" not in refused.problems[0].reason


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"hour": None, "page": None, "tags": None}, {}),
        ({"page": "", "tags": ""}, {}),
        ({"hour": True, "price": 2}, {"hour": 1.0, "price": 2.0}),
        ({"page": True}, {"page": True}),
        ({"page": 7}, {"page": 7}),
        ({"page": 1 << 100}, {"page": str(1 << 100)}),
        ({"tags": ["a", "", 1, 1 << 100]}, {"tags": ["a", 1, str(1 << 100)]}),
        ({"tags": []}, {"tags": []}),
    ],
)
def test_context_means_what_it_means_in_a_ranking(rules, sent, kept):
    event = rules.judge(received(context=sent), NOW)
    assert event.context == kept
    assert decode_event(encode_event(event)) == event


def test_views_without_events_have_no_rules():
    with pytest.raises(EventsNotDeclaredError):
        EventRules(make_views(with_events=False), TIME)
