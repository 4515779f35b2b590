"""Reading the event log of a real server: in chunks, in order, after a place, and told apart from one with a gap."""

import pytest

from feature_store.errors import StoreUnavailableError
from feature_store.keys import KeySpace
from feature_store.redis.event_log import EventLogReader
from tests.feature_store.events.logged import fields_of, logged

KEYS = KeySpace("shop")


@pytest.fixture
async def reader(valkey_url):
    reader = EventLogReader.from_url(valkey_url, keys=KEYS)
    yield reader
    await reader.close()


def write(valkey, *numbers):
    """Entries as the server-side step writes them; gives their ids."""
    ids = []
    for number in numbers:
        valkey.set(KEYS.event_count, number)
        ids.append(valkey.xadd(KEYS.event_log, fields_of(logged(number, version=number, entered=number % 2 == 0))).decode())
    return ids


async def test_everything_is_read_in_order_whatever_the_chunk(valkey, reader):
    ids = write(valkey, *range(1, 8))
    for chunk in (1, 3, 7, 100):
        reading = await reader.read_all(chunk=chunk)
        assert [entry.id for entry in reading.entries] == ids
        assert [entry.logged for entry in reading.entries] == [
            logged(number, version=number, entered=number % 2 == 0) for number in range(1, 8)
        ]
        assert (reading.before, reading.ever, reading.last_id, reading.gaps()) == (0, 7, ids[-1], [])


async def test_reading_goes_on_behind_an_entry(valkey, reader):
    ids = write(valkey, 1, 2, 3)
    assert [entry.number for entry in await reader.read(ids[0], 1)] == [2]
    reading = await reader.read_all(ids[1])
    assert ([entry.number for entry in reading.entries], reading.before, reading.gaps()) == ([3], 2, [])
    reading = await reader.read_all(ids[2])
    assert (list(reading.entries), reading.last_id, reading.gaps()) == ([], None, [])


async def test_what_was_cut_off_is_told(valkey, reader):
    ids = write(valkey, 1, 2, 3, 4)
    valkey.xtrim(KEYS.event_log, minid=ids[2], approximate=False)
    assert (await reader.read_all()).gaps() == [f"events 1 to 2 are missing before entry {ids[2]}"]
    assert "no longer in the log" in (await reader.read_all(ids[1])).gaps()[0]
    assert (await reader.read_all(ids[2])).gaps() == []
    valkey.delete(KEYS.event_log)
    assert (await reader.read_all()).gaps() == ["events 1 to 4 are not in the log"]


async def test_an_empty_store_has_an_empty_log(reader):
    reading = await reader.read_all()
    assert (list(reading.entries), reading.ever, reading.gaps()) == ([], None, [])


async def test_entries_of_others_making_are_told(valkey, reader):
    valkey.xadd(KEYS.event_log, {"n": "1", "e": b"\xff"})
    valkey.xadd(KEYS.event_log, {"hello": "world"})
    assert [gap.endswith("cannot be read") for gap in (await reader.read_all()).gaps()] == [True, True]


async def test_a_key_that_is_no_stream_is_an_error_of_the_store(valkey, reader):
    valkey.set(KEYS.event_log, "x")
    with pytest.raises(StoreUnavailableError):
        await reader.read_all()
