"""Single flight: requests that miss the same items at one time read each item once, and never each other's user."""

import asyncio
from collections import Counter

import pytest

from feature_store import item_reads
from feature_store.errors import StoreUnavailableError
from feature_store.item_cache import CacheRule, ItemCache
from feature_store.online import OnlineFeatures
from feature_store.records import feature_record, history_record
from feature_store.stored import StoredRecords
from tests.feature_store.encoders import item_encoder

ENCODER = item_encoder()
OTHER = item_encoder(items=("d", "c"), buckets=7)
SECONDS = 5.0


class SlowStore:
    """Holds every read until it is let go; has every item but those that begin with x."""

    def __init__(self):
        self.asked = []
        self.trouble = None
        self.corrupt = set()
        self.go = asyncio.Event()

    async def read(self, user_id, item_ids, timeout_s=None):
        self.asked.append((user_id, list(item_ids)))
        trouble = self.trouble
        try:
            async with asyncio.timeout(timeout_s):
                await self.go.wait()
        except TimeoutError:
            raise StoreUnavailableError("timeout") from None
        if trouble is not None:
            raise StoreUnavailableError(trouble)
        items = {
            item_id: None if item_id.startswith("x") else feature_record(item_id, 5.0, {"price": 14.0})
            for item_id in item_ids
            if item_id not in self.corrupt
        }
        faults = ("user_corrupt", "item_corrupt") if self.corrupt & set(item_ids) else ()
        user = feature_record(user_id, 5.0, {"country": user_id})
        return StoredRecords(user, history_record(user_id, [f"of {user_id}"], [1.0]), items, faults)

    @property
    def items_asked(self):
        return Counter(item_id for _, ids in self.asked for item_id in ids)


@pytest.fixture
def store():
    return SlowStore()


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def features(store, clock):
    return OnlineFeatures(store, ItemCache(CacheRule(ttl_s=100.0, jitter=0.0), clock=lambda: clock[0]))


async def begun(features, user, ids, encoder=ENCODER, timeout_s=SECONDS):
    """A request that has got as far as it gets without the store."""
    task = asyncio.create_task(features.fetch(user, ids, encoder, timeout_s))
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def test_fifty_requests_for_the_same_cold_items_read_each_item_once(store, features):
    ids = [f"i{number}" for number in range(200)]
    requests = [
        await begun(features, f"u{number}", ids[number:] + ids[:number], ENCODER if number % 2 else OTHER)
        for number in range(50)
    ]
    store.go.set()
    for number, fetched in enumerate(await asyncio.gather(*requests)):
        assert (fetched.user, fetched.history_items) == ({"country": f"u{number}"}, [f"of u{number}"])
        assert (fetched.unknown_items, fetched.stale_items, fetched.unavailable, fetched.faults) == (0, 0, None, ())
        assert fetched.items.numbers[:, 0].tolist() == [1.0] * 200
    assert store.items_asked == Counter(ids)
    assert Counter(user for user, _ in store.asked) == Counter(f"u{number}" for number in range(50))


async def test_a_request_reads_itself_what_nobody_reads_yet_in_one_round_trip(store, features):
    first = await begun(features, "u1", ["a", "b"])
    second = await begun(features, "u2", ["c", "b", "x", "a"])
    assert store.asked == [("u1", ["a", "b"]), ("u2", ["c", "x"])]
    store.go.set()
    await first
    fetched = await second
    assert (fetched.items.categories[:, 0].tolist(), fetched.unknown_items) == ([4, 3, 1, 2], 1)


@pytest.mark.parametrize("steps", range(4))
async def test_the_first_request_being_cancelled_loses_nothing_for_those_that_wait(store, features, steps):
    first = asyncio.create_task(features.fetch("u1", ["a"], ENCODER, SECONDS))
    for _ in range(steps):
        await asyncio.sleep(0)
    first.cancel()
    second = await begun(features, "u2", ["a"])
    store.go.set()
    assert (await second).unknown_items == 0
    assert store.items_asked == {"a": 1}


async def test_a_read_is_kept_though_everybody_has_gone(store, features):
    request = await begun(features, "u1", ["a"])
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    store.go.set()
    await asyncio.sleep(0.01)
    assert (await features.fetch("u2", ["a"], ENCODER, SECONDS)).unknown_items == 0
    assert store.items_asked == {"a": 1}


async def test_a_failed_read_is_not_tried_again_by_those_that_wait_but_by_the_next_request(store, features):
    store.trouble = "timeout"
    first = await begun(features, "u1", ["a"])
    store.trouble = None
    waiting = [await begun(features, f"u{number}", ["a"]) for number in range(2, 6)]
    store.go.set()
    assert (await first).unavailable == "timeout"
    for fetched in await asyncio.gather(*waiting):
        assert (fetched.unavailable, fetched.unknown_items, fetched.faults) == (None, 1, ("items_unavailable",))
        assert fetched.user is not None
    assert store.items_asked == {"a": 1}
    assert (await features.fetch("u9", ["a"], ENCODER, SECONDS)).unknown_items == 0


async def test_who_waits_for_a_read_that_fails_has_the_expired_row(store, features, clock):
    store.go.set()
    await features.fetch("u1", ["a"], ENCODER, SECONDS)
    store.go.clear()
    clock[0] = 100.0
    store.trouble = "disconnected"
    first = await begun(features, "u1", ["a"])
    store.trouble = None
    second = await begun(features, "u2", ["a"])
    store.go.set()
    await first
    fetched = await second
    assert (fetched.stale_items, fetched.unknown_items, fetched.items.numbers[:, 0].tolist()) == (1, 0, [1.0])


async def test_a_waiting_request_waits_no_longer_than_its_own_time(store, features):
    first = await begun(features, "u1", ["a"])
    async with asyncio.timeout(SECONDS):
        fetched = await features.fetch("u2", ["a"], ENCODER, 0.01)
    assert (fetched.unavailable, fetched.unknown_items) == ("timeout", 1)
    store.go.set()
    assert (await first).unknown_items == 0


async def test_the_first_requests_short_time_costs_those_that_wait_nothing(store, features):
    assert (await features.fetch("u1", ["a"], ENCODER, 0.01)).unknown_items == 1
    second = await begun(features, "u2", ["a"])
    store.go.set()
    assert (await second).unknown_items == 0
    assert store.items_asked == {"a": 1}


async def test_an_item_at_fault_is_told_to_all_that_wait_for_it_and_the_users_fault_to_none(store, features):
    store.corrupt = {"b"}
    first = await begun(features, "u1", ["a", "b"])
    waiting = {ids: await begun(features, "u2", list(ids)) for ids in ("a", "b")}
    store.go.set()
    assert (await first).faults == ("user_corrupt", "item_corrupt")
    assert [(await task).faults for task in waiting.values()] == [(), ("item_corrupt",)]


async def test_a_store_that_never_answers_keeps_an_item_from_others_for_a_while_only(store, features, monkeypatch):
    monkeypatch.setattr(item_reads, "_READ_LIMIT_S", 0.01)
    assert (await features.fetch("u1", ["a"], ENCODER, SECONDS)).unavailable == "timeout"
    store.go.set()
    assert (await features.fetch("u2", ["a"], ENCODER, SECONDS)).unknown_items == 0
