"""One request's features: one round trip, and an answer whatever the store does."""

import asyncio
import time

import numpy as np
import pytest

from feature_store.embedded import EmbeddedStore
from feature_store.errors import StoreUnavailableError
from feature_store.item_cache import CacheRule, ItemCache
from feature_store.item_rows import ItemFeatures, LateBlock
from feature_store.item_table import ItemTable
from feature_store.keys import KeySpace
from feature_store.materialize import write_history
from feature_store.online import OnlineFeatures
from feature_store.records import encode_features, feature_record, history_record
from feature_store.redis.reader import RedisStore
from feature_store.redis.writer import RedisWriter
from feature_store.store_settings import ReadLimits
from feature_store.stored import StoredRecords
from tests.feature_store.encoders import item_encoder

ENCODER = item_encoder()
SECONDS = 5.0


class Store:
    """Answers from a dict, or fails, or never answers; remembers what it was asked."""

    def __init__(self, items=None):
        self.items = items or {}
        self.trouble = None
        self.faults = ()
        self.asked = []

    async def read(self, user_id, item_ids, timeout_s=None):
        self.asked.append((user_id, list(item_ids)))
        if self.trouble == "silence":
            await asyncio.sleep(timeout_s)
            raise StoreUnavailableError("timeout")
        if self.trouble is not None:
            raise StoreUnavailableError(self.trouble)
        history = history_record(user_id, ["a", "b"], [1.0, 2.0], version=7, written_at=2_000.0)
        items = {item_id: self.items.get(item_id) for item_id in item_ids}
        return StoredRecords(feature_record(user_id, 5.0, {"country": "no"}, written_at=1_000.0), history, items, self.faults)


def item(item_id, value):
    return feature_record(item_id, 5.0, {"price": float(value)})


def online(store, **options):
    return OnlineFeatures(store, ItemCache(CacheRule()), **options)


@pytest.fixture
def store():
    return Store({"a": item("a", 10), "b": item("b", 14)})


async def test_everything_comes_in_one_read_and_cached_items_are_not_asked_again(store):
    features = online(store)
    fetched = await features.fetch("u1", ["b", "a", "b", "new"], ENCODER, SECONDS)
    assert (fetched.user, fetched.user_written_at) == ({"country": "no"}, 1_000.0)
    assert (fetched.history_items, fetched.history_times) == (["a", "b"], [1.0, 2.0])
    assert (fetched.history_written_at, fetched.history_version) == (2_000.0, 7)
    assert fetched.items.categories[:, 0].tolist() == [3, 2, 3, 1]
    assert fetched.items.numbers[:, 0].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert (fetched.unknown_items, fetched.stale_items, fetched.unavailable, fetched.faults) == (1, 0, None, ())
    await features.fetch("u2", ["a", "b", "new"], ENCODER, SECONDS)
    assert store.asked == [("u1", ["b", "a", "new"]), ("u2", [])]


@pytest.mark.parametrize("trouble", ["refused", "circuit_open", "pool_exhausted", "loading"])
async def test_without_the_store_there_are_defaults_and_the_reason(store, trouble):
    store.trouble = trouble
    fetched = await online(store).fetch("u1", ["a", "x"], ENCODER, SECONDS)
    assert (fetched.user, fetched.user_written_at, fetched.history_items, fetched.history_times) == (None, None, [], [])
    assert (fetched.history_written_at, fetched.history_version) == (None, None)
    assert (fetched.unavailable, fetched.unknown_items) == (trouble, 2)
    assert fetched.items.categories[:, 0].tolist() == [2, 1]


async def test_items_fetched_before_the_store_went_away_still_have_their_features(store):
    features = online(store)
    await features.fetch("u1", ["a", "b"], ENCODER, SECONDS)
    store.trouble = "refused"
    fetched = await features.fetch("u1", ["a", "b"], ENCODER, SECONDS)
    assert (fetched.unknown_items, fetched.items.numbers[:, 0].tolist()) == (0, [0.0, 1.0])


async def test_defaults_given_without_the_store_are_not_kept(store):
    features = online(store)
    store.trouble = "refused"
    await features.fetch("u1", ["a"], ENCODER, SECONDS)
    store.trouble = None
    assert (await features.fetch("u1", ["a"], ENCODER, SECONDS)).unknown_items == 0


async def test_a_silent_store_costs_no_more_than_the_timeout(store):
    store.trouble = "silence"
    async with asyncio.timeout(5):
        fetched = await online(store).fetch("u1", ["a"], ENCODER, 0.01)
    assert (fetched.unavailable, fetched.unknown_items) == ("timeout", 1)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_with_no_time_left_the_store_is_not_asked(store, timeout_s):
    fetched = await online(store).fetch("u1", ["a"], ENCODER, timeout_s)
    assert (fetched.unavailable, store.asked) == ("timeout", [])


async def test_a_cancelled_request_is_cancelled_and_not_answered_by_defaults(store):
    store.trouble = "silence"
    request = asyncio.create_task(online(store).fetch("u1", ["a"], ENCODER, SECONDS))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


async def test_faults_of_the_store_are_passed_on(store):
    store.faults = ("item_corrupt",)
    assert (await online(store).fetch("u1", ["a"], ENCODER, SECONDS)).faults == ("item_corrupt",)


async def test_an_item_at_fault_is_a_default_that_is_asked_for_again():
    class Corrupt(Store):
        async def read(self, user_id, item_ids, timeout_s=None):
            stored = await super().read(user_id, item_ids, timeout_s)
            return StoredRecords(stored.user, stored.history, {}, ("item_corrupt",))

    store = Corrupt()
    features = online(store)
    for _ in range(2):
        assert (await features.fetch("u1", ["a"], ENCODER, SECONDS)).unknown_items == 1
    assert store.asked == [("u1", ["a"])] * 2


async def test_against_a_real_server_features_are_as_fresh_as_the_last_write(valkey, valkey_url):
    keys = KeySpace()
    valkey.set(keys.user("u1"), encode_features(feature_record("u1", 5.0, {"country": "se"})))
    valkey.set(keys.item("a"), encode_features(item("a", 14)))
    writer = RedisWriter.from_url(valkey_url)
    store = RedisStore.from_url(valkey_url, limits=ReadLimits(connect_timeout_s=SECONDS, read_timeout_s=SECONDS))
    features = online(store)
    for history in (["a"], ["a", "b"], []):
        await write_history(writer, "u1", history, [float(place) for place in range(len(history))])
        fetched = await features.fetch("u1", ["a"], ENCODER, SECONDS)
        assert (fetched.user, fetched.history_items, fetched.history_version) == ({"country": "se"}, history, len(history))
        assert abs(fetched.history_written_at - time.time()) < 60
        np.testing.assert_array_equal(fetched.items.numbers, [[1.0]])
    await store.close()
    await writer.close()


async def test_a_store_that_ends_and_returns_needs_no_restart_of_the_reader(tmp_path):
    with EmbeddedStore(tmp_path) as server:
        writer = RedisWriter.from_url(server.url)
        await write_history(writer, "u1", ["a"], [1.0])
        await writer.close()
        store = RedisStore.from_url(server.url, limits=ReadLimits(connect_timeout_s=SECONDS, read_timeout_s=SECONDS))
        features = online(store)
        assert (await features.fetch("u1", [], ENCODER, SECONDS)).history_items == ["a"]
    await asyncio.sleep(0.01)
    assert (await features.fetch("u1", [], ENCODER, SECONDS)).unavailable == "refused"
    with EmbeddedStore(tmp_path):
        fetched = await features.fetch("u1", [], ENCODER, SECONDS)
    assert (fetched.unavailable, fetched.history_items) == (None, ["a"])
    await store.close()


async def test_the_rows_of_an_item_table_come_with_the_items_whether_held_or_missing(store):
    table = ItemTable(2, lambda block: np.repeat(block.numbers[:, :1], 2, axis=1))
    features = online(store)
    for expected_reads in (1, 2):
        fetched = await features.fetch("u1", ["b", "a", "b"], ENCODER, SECONDS, item_table=table)
        np.testing.assert_array_equal(fetched.item_part, [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
        assert (fetched.user, len(store.asked)) == ({"country": "no"}, expected_reads)
    assert (await features.fetch("u1", ["a"], ENCODER, SECONDS)).item_part is None


async def test_the_items_are_copied_only_when_they_are_asked_for_and_are_then_as_they_were_at_the_read(store):
    cache, table = ItemCache(CacheRule()), ItemTable(2, lambda block: np.repeat(block.numbers[:, :1], 2, axis=1))
    features = OnlineFeatures(store, cache)
    await features.fetch("u1", ["a", "b"], ENCODER, SECONDS, item_table=table)
    before = await features.fetch("u1", ["a", "b", "a"], ENCODER, SECONDS, item_table=table)
    assert isinstance(before.lookup._rows, LateBlock)  # no copy for a graph that reads item parts alone
    cache.replace({"a": ItemFeatures({"price": 14.0})}, cache.moment())
    after = await features.fetch("u1", ["a"], ENCODER, SECONDS, item_table=table)
    assert before.items.numbers[:, 0].tolist() == [0.0, 1.0, 0.0]
    assert before.items is before.items
    assert after.items.numbers[:, 0].tolist() == [1.0]
