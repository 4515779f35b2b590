"""What came live and then by the batch is one event, in a real server, whatever unit the team's table counts."""

import pytest

from feature_store.events.ports import SpoolMark
from feature_store.keys import KeySpace
from feature_store.records import decode_history, history_record
from feature_store.redis.events import RedisEvents
from feature_store.redis.script_runs import open_scripts
from feature_store.redis.writer import RedisWriter
from service.ingestion.event_rules import EventRules
from service.ingestion.event_time import TimeRule
from service.ingestion.received import ReceivedEvent
from tests.service.ingestion.stand_ins import make_views

NOW = 1_800_000_000.25
SENT = 1_799_999_999.123_987


async def history_after(valkey_url, valkey, views, table):
    """Item b live without a time, a at SENT; then the batch with its table's items and times."""
    rules, keys = EventRules(views, TimeRule(60.0, None)), KeySpace()
    received = [ReceivedEvent(0, "1", "u", "a", "click", time=SENT), ReceivedEvent(1, "2", "u", "b", "click")]
    store, writer = RedisEvents(open_scripts(valkey_url, 5.0), keys, views), RedisWriter.from_url(valkey_url)
    try:
        await store.apply([rules.judge(each, NOW) for each in received], SpoolMark("s", None, 1))
        await writer.merge_histories([history_record("u", list(table), list(table.values()))], views.history.length)
        return decode_history(valkey.get(keys.history("u")), "u").items
    finally:
        await store.close()
        await writer.close()


@pytest.mark.parametrize(
    ("views", "table"),
    [
        (make_views("s"), {"a": 1_799_999_999, "b": 1_800_000_000}),
        (make_views("ms"), {"a": 1_799_999_999_123, "b": 1_800_000_000_250}),
        (make_views("us"), {"a": 1_799_999_999_123_987, "b": 1_800_000_000_250_000}),
        (make_views("s", "us"), {"a": 1_799_999_999.123987, "b": 1_800_000_000.25}),
    ],
    ids=["s", "ms", "us", "us-in-s"],
)
async def test_an_event_of_the_batch_is_the_one_that_came_live(valkey_url, valkey, views, table):
    assert await history_after(valkey_url, valkey, views, table) == ["a", "b"]


async def test_a_batch_with_another_time_than_the_servers_doubles_an_event_as_documented(valkey_url, valkey):
    assert await history_after(valkey_url, valkey, make_views(), {"b": 1_799_999_990, "a": 1_799_999_999}) == ["b", "a", "b"]
