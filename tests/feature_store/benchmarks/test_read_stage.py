"""The ways to read: they bring the same, and ours is one round trip of one MGET."""

import pytest

from feature_store.benchmarks.made_items import USER, MadeItems
from feature_store.benchmarks.read_stage import FETCH_COLD, FETCH_WARM, LOOP, PIPELINE, READ, ReadStage
from feature_store.benchmarks.round_trips import TripCounter
from feature_store.errors import BenchmarkError
from feature_store.redis.plain_hashes import ServerGauge

ITEMS = MadeItems.of(60, 8)


@pytest.fixture
async def stage(valkey_url):
    async with ReadStage(valkey_url, ITEMS, 8) as stage:
        await stage.write(views=(1, 3))
        yield stage


def calls_between(before, after):
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


async def test_every_way_brings_the_same(stage):
    ids = ITEMS.ids[10:40]
    expected = [ITEMS.values(item_id) for item_id in ids]
    assert {type(value) for value in expected[0].values()} == {str, float, list}
    assert len({repr(values) for values in expected}) == len(ids)
    assert await stage.loop(ids) == expected
    assert await stage.loop(ids, 3) == expected
    assert await stage.async_loop(ids) == expected
    assert await stage.pipeline(ids) == expected
    assert await stage.fields_loop(ids) == expected
    stored = await stage.read(ids)
    assert [record.values for record in stored.items.values()] == expected
    assert stored.user.values["country"] == "no"
    assert len(stored.history.items) == 50
    await stage.check(ids, (1, 3))


async def test_ways_that_differ_are_refused(stage, valkey):
    valkey.hset(ITEMS.hash_keys(ITEMS.ids[:1])[0], "category_0", "another")
    with pytest.raises(BenchmarkError):
        await stage.check(ITEMS.ids[:5])


async def test_a_record_that_is_missing_is_refused(stage, valkey):
    assert valkey.delete(f"rankline:item:{{{ITEMS.ids[1]}}}") == 1
    with pytest.raises(BenchmarkError):
        await stage.check(ITEMS.ids[:5])


async def test_one_request_is_one_mget_and_no_other_command_an_item(stage, valkey_url):
    gauge = ServerGauge(valkey_url)
    ids = ITEMS.ids
    ways = stage.ways(ids)
    before = gauge.calls()
    await ways[READ]()
    read = calls_between(before, gauge.calls())
    before = gauge.calls()
    await ways[FETCH_COLD]()
    cold = calls_between(before, gauge.calls())
    before = gauge.calls()
    await ways[LOOP]()
    loop = calls_between(before, gauge.calls())
    gauge.close()
    assert read == cold
    assert read["mget"] == 1
    assert set(read) <= {"mget", "get"}
    assert read.get("get", 0) <= 2  # the user's features and history, sent with it
    assert loop == {"hgetall": len(ids)}


async def test_one_request_is_one_round_trip_on_the_wire(stage, valkey_url, tmp_path_factory):
    ids = ITEMS.ids[:4]
    with TripCounter(valkey_url, tmp_path_factory.mktemp("r") / "s") as relay:
        async with ReadStage(relay.url, ITEMS, 8) as relayed:
            for way in relayed.ways(ids).values():
                await way()  # opens the connections
            await relayed.fetch_warm(ids)
            trips = {}
            for name, way in relayed.ways(ids).items():
                before = relay.trips
                await way()
                trips[name] = relay.trips - before
    assert {name: trips[name] for name in (READ, FETCH_COLD, FETCH_WARM, LOOP, PIPELINE)} == {
        READ: 1,
        FETCH_COLD: 1,
        FETCH_WARM: 1,
        LOOP: 4,
        PIPELINE: 1,
    }


async def test_the_read_of_many_items_is_one_round_trip(stage, valkey_url, tmp_path_factory):
    many = tuple(str(number) for number in range(5_000))
    with TripCounter(valkey_url, tmp_path_factory.mktemp("r") / "s") as relay:
        async with ReadStage(relay.url, ITEMS, 8) as relayed:
            await relayed.store.read(USER, ["1"])
            before = relay.trips
            stored = await relayed.store.read(USER, many)
            assert relay.trips - before == 1
    assert len(stored.items) == 5_000
