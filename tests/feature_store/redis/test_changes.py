"""Announced items come to a reader once, in order, and whatever it may have missed is told."""

import asyncio

import msgspec
import pytest

from feature_store.errors import StoreUnavailableError
from feature_store.keys import KeySpace
from feature_store.redis import changes as subject
from feature_store.redis.changes import ItemChanges, ItemChangesWriter, StreamPosition
from feature_store.redis.writer import RedisWriter

KEYS = KeySpace()
STREAM = KEYS.item_changes


@pytest.fixture
async def writer(valkey_url):
    writer = RedisWriter.from_url(valkey_url)
    yield writer.item_changes
    await writer.close()


@pytest.fixture
async def reader(valkey_url):
    reader = ItemChanges.from_url(valkey_url, timeout_s=5.0)
    yield reader
    await reader.close()


async def newest(reader) -> StreamPosition:
    return (await reader.read(None)).position


async def test_what_is_announced_after_a_position_is_read_once(reader, writer):
    await writer.announce(["before"])
    start = await newest(reader)
    await writer.announce(["a", "é/{b}"])
    await writer.announce(["c", "a"])
    changes = await reader.read(start)
    assert (changes.ids, changes.gap, changes.more) == (("a", "é/{b}", "c"), False, False)
    again = await reader.read(changes.position)
    assert (again.ids, again.gap, again.position) == ((), False, changes.position)


async def test_without_a_position_nothing_is_known_of_what_came_before(reader, writer):
    assert (await reader.read(None)).gap
    await writer.announce(["a"])
    changes = await reader.read(None)
    assert (changes.ids, changes.gap, changes.position.number) == ((), True, 1)


async def test_a_long_list_is_told_in_bounded_entries_and_read_in_bounded_batches(reader, writer, valkey):
    start = await newest(reader)
    ids = [f"i{number}" for number in range(500 * 20 + 1)]
    await writer.announce(ids)
    assert max(len(msgspec.msgpack.decode(fields[b"ids"])) for _, fields in valkey.xrange(STREAM)) == 500
    first = await reader.read(start)
    second = await reader.read(first.position)
    assert (first.more, second.more, first.gap, second.gap) == (True, False, False, False)
    assert list(first.ids + second.ids) == ids


async def test_writers_at_the_same_time_leave_no_gap_in_the_numbers(reader, writer, valkey_url, valkey):
    start = await newest(reader)
    other = RedisWriter.from_url(valkey_url)
    await asyncio.gather(
        *(each.announce([f"{each is writer}{number}"]) for number in range(8) for each in (writer, other.item_changes))
    )
    await other.close()
    assert [int(fields[b"n"]) for _, fields in valkey.xrange(STREAM)] == list(range(1, 17))
    changes = await reader.read(start)
    assert (len(changes.ids), changes.gap) == (16, False)


async def test_a_stream_trimmed_past_the_reader_is_a_gap_and_then_goes_on(reader, writer, monkeypatch, valkey):
    monkeypatch.setattr(subject, "KEPT_ENTRIES", 3)
    start = await newest(reader)
    for number in range(5):
        await writer.announce([f"i{number}"])
    assert valkey.xlen(STREAM) == 3
    changes = await reader.read(start)
    assert (changes.ids, changes.gap, changes.position.number) == ((), True, 5)
    await writer.announce(["next"])
    after = await reader.read(changes.position)
    assert (after.ids, after.gap) == (("next",), False)


async def test_a_reader_as_far_behind_as_the_stream_is_long_has_missed_nothing(reader, writer, monkeypatch):
    monkeypatch.setattr(subject, "KEPT_ENTRIES", 3)
    start = await newest(reader)
    for number in range(3):
        await writer.announce([f"i{number}"])
    changes = await reader.read(start)
    assert (changes.ids, changes.gap) == (("i0", "i1", "i2"), False)


@pytest.mark.parametrize("announced_since", [0, 1, 2, 3, 5])
async def test_another_store_at_the_same_place_is_a_gap_however_many_it_announced(reader, writer, valkey, announced_since):
    await writer.announce(["a"])
    await writer.announce(["b"])
    start = await newest(reader)
    valkey.flushall()
    for number in range(announced_since):
        await writer.announce([f"i{number}"])
    changes = await reader.read(start)
    assert (changes.ids, changes.gap, changes.position.number) == ((), True, announced_since)
    again = await reader.read(changes.position)
    assert (again.ids, again.gap) == ((), False)


async def test_a_store_whose_clock_is_behind_is_a_gap_too(reader, writer, valkey):
    await writer.announce(["a"])
    start = await newest(reader)
    valkey.flushall()
    valkey.xadd(STREAM, {"n": 1, "ids": msgspec.msgpack.encode(["b"])}, id="5-0")
    assert (await reader.read(start)).gap


@pytest.mark.parametrize(
    "fields",
    [
        {"other": "field"},
        {"n": "2"},
        {"n": "2", "ids": b"\xc1"},
        {"n": "2", "ids": msgspec.msgpack.encode([1, 2])},
        {"n": "2", "ids": msgspec.msgpack.encode(["a"] * 501)},
        {"n": "two", "ids": msgspec.msgpack.encode(["a"])},
        {"n": "9" * 5_000, "ids": msgspec.msgpack.encode(["a"])},
    ],
)
async def test_an_entry_that_is_none_of_ours_is_a_gap_and_stops_nobody(reader, writer, valkey, fields):
    await writer.announce(["a"])
    start = await newest(reader)
    valkey.xadd(STREAM, fields)
    changes = await reader.read(start)
    assert (changes.ids, changes.gap) == ((), True)
    await writer.announce(["b"])
    changes = await reader.read(changes.position)
    assert changes.gap or changes.ids == ("b",)
    await writer.announce(["c"])
    after = await reader.read(changes.position)
    assert (after.ids, after.gap) == (("c",), False)


async def test_a_key_of_another_type_is_trouble_until_it_is_gone(reader, valkey):
    valkey.set(STREAM, "text")
    with pytest.raises(StoreUnavailableError):
        await reader.read(None)
    valkey.delete(STREAM)
    assert (await reader.read(None)).position.number == 0


async def test_a_store_that_is_not_there_is_told_by_reader_and_writer():
    reader = ItemChanges.from_url("redis://127.0.0.1:1/0")
    writer = ItemChangesWriter(reader._client, KEYS)
    with pytest.raises(StoreUnavailableError):
        await reader.read(None)
    with pytest.raises(StoreUnavailableError):
        await writer.announce(["a"])
    await reader.close()


async def test_cancelled_reads_never_confuse_those_that_follow(reader, writer):
    await writer.announce(["a"])
    start = StreamPosition(b"0-0", 0)
    for steps in [*range(12), *range(12)]:
        task = asyncio.create_task(reader.read(start))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await reader.read(start)).ids == ("a",)
