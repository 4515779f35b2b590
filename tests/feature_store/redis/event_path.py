"""All that live events need of a store, at any URL, and reading it back."""

import contextlib

import pytest

from feature_store.counters import counts_at, decode_counters
from feature_store.errors import StoreRewoundError
from feature_store.events.ports import SpoolMark
from feature_store.records import decode_history, history_record
from feature_store.redis.changes import ItemChanges, StreamPosition
from feature_store.redis.connections import driver_errors
from feature_store.redis.event_log import EventLogReader
from feature_store.redis.events import RedisEvents
from feature_store.redis.script_runs import open_scripts
from feature_store.redis.topology import open_client
from feature_store.redis.writer import RedisWriter
from tests.feature_store.redis.event_data import KEYS, apply, click, views

USERS = [f"u{number}" for number in range(12)]


@contextlib.asynccontextmanager
async def opened(part):
    try:
        yield part
    finally:
        await part.close()


def events_at(url, timeout_s=2.0, **of_views):
    return opened(RedisEvents(open_scripts(url, timeout_s), KEYS, views(**of_views)))


async def values_of(url, keys):
    client = open_client(url, timeout_s=5.0, retries=4, max_connections=2)
    try:
        with driver_errors():
            return [await client.get(key) for key in keys]
    finally:
        await client.aclose()


async def histories(url):
    values = await values_of(url, map(KEYS.history, USERS))
    return {user: decode_history(value, user) for user, value in zip(USERS, values, strict=True) if value is not None}


async def counted(url, key, owner):
    (value,) = await values_of(url, [key])
    return counts_at(decode_counters(value, owner), 0.0)["click"].count


async def the_whole_path(url):
    """Apply, mark, rewind, count, log, merge and announce; then read each back."""
    async with events_at(url) as store:
        events = [click(f"i{number % 3}", number, user=user) for number in range(3) for user in USERS]
        assert [(each.fresh, each.version) for each in await apply(store, events)] == [
            (True, version) for version in (1, 2, 3) for _ in USERS
        ]
        again = await apply(store, [*events, click("new", 9, user="w")])
        assert [each.fresh for each in again] == [False] * len(events) + [True]
        assert (await store.applied_through("s")).sure == 2 * len(events) + 1
        with pytest.raises(StoreRewoundError):
            await store.apply([click("i1", 10, user="w")], SpoolMark("s", 7, 8))
        assert (await store.applied_through("s")).sure == 2 * len(events) + 1
        assert (await store.applied_through("other")).sure is None
    assert await in_all_histories(url, ["i0", "i1", "i2"])
    assert [await counted(url, KEYS.item_counters(f"i{n}"), f"i{n}") for n in range(3)] == [len(USERS)] * 3
    assert await counted(url, KEYS.user_counters("u0"), "u0") == 3
    async with opened(EventLogReader.from_url(url)) as log:
        reading = await log.read_all(chunk=7)
    assert {entry.logged.event.event_id for entry in reading.entries} >= {event.event_id for event in events}
    assert reading.gaps() == []
    async with opened(RedisWriter.from_url(url)) as writer:
        await writer.merge_histories([history_record(user, ["b", "i1"], [0.5, 1.0]) for user in USERS], 5)
        await writer.item_changes.announce(["i0", "i1"])
    assert await in_all_histories(url, ["i0", "b", "i1", "i2"])
    assert {each.version for each in (await histories(url)).values()} == {4}
    async with opened(ItemChanges.from_url(url)) as changes:
        assert (await changes.read(StreamPosition(b"0-0", 0))).ids == ("i0", "i1")


async def in_all_histories(url, items):
    found = await histories(url)
    return found.keys() == {*USERS} and all(history.items == items for history in found.values())
