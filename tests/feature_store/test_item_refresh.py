"""Changed items are read anew while their old rows serve; whatever fails is done later."""

import asyncio
import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from feature_store import item_rows
from feature_store.errors import StoreUnavailableError
from feature_store.item_cache import CacheRule, ItemCache
from feature_store.item_refresh import ItemRefresher, RefreshRule
from feature_store.item_rows import ItemFeatures
from feature_store.materialize import materialize
from feature_store.online import OnlineFeatures
from feature_store.records import feature_record
from feature_store.redis.changes import Changes, ItemChanges, StreamPosition
from feature_store.redis.reader import RedisStore
from feature_store.redis.writer import RedisWriter
from feature_store.store_settings import ReadLimits
from feature_store.stored import StoredRecords
from feature_store.tables import read_tables
from feature_store.views import load_views
from tests.feature_store.encoders import item_encoder
from tests.feature_store.shop_tables import shop_views

ENCODER = item_encoder()
OTHER = item_encoder(items=("d", "c"), buckets=7)
SECONDS = 5.0
FAST = RefreshRule(poll_s=0.001, chunk_pause_s=0.0, first_pause_s=0.001, longest_pause_s=0.004)


class Announced:
    """Announcements by hand."""

    def __init__(self):
        self.batches = []
        self.trouble = None
        self.asked = []

    def tell(self, *ids, gap=False, more=False):
        self.batches.append((ids, gap, more))

    async def read(self, after):
        self.asked.append(after)
        if self.trouble is not None:
            raise self.trouble
        number = 0 if after is None else after.number
        if after is None:
            return Changes((), StreamPosition(b"0-0", 0), gap=True, more=False)
        if len(self.batches) <= number:
            return Changes((), after, gap=False, more=False)
        ids, gap, more = self.batches[number]
        return Changes(ids, StreamPosition(b"0-0", number + 1), gap, more)


class Store:
    """Answers from a dict of prices; an id in ``doubtful`` is left out."""

    def __init__(self, prices):
        self.prices = prices
        self.trouble = None
        self.doubtful = set()
        self.asked = []
        self.while_reading = lambda: None

    async def read(self, user_id, item_ids, timeout_s=None):
        self.asked.append(list(item_ids))
        if self.trouble is not None:
            raise self.trouble
        found = {item_id: self.prices.get(item_id) for item_id in item_ids if item_id not in self.doubtful}
        self.while_reading()
        await asyncio.sleep(0)
        records = {
            item_id: None if value is None else feature_record(item_id, 5.0, {"price": value})
            for item_id, value in found.items()
        }
        return StoredRecords(None, None, records)


@pytest.fixture
def prices():
    return {f"i{number}": 10.0 for number in range(1_200)}


class Line:
    """A store, a cache in front of it and its refresher, whose position is taken."""

    def __init__(self, prices, capacity=2_000, **online):
        self.store, self.announced = Store(prices), Announced()
        self.cache = ItemCache(CacheRule(capacity=capacity, jitter=0.0))
        self.features = OnlineFeatures(self.store, self.cache, **online)
        self.refresher = ItemRefresher(self.announced, self.store, self.cache, FAST, freshness=self.features.freshness)

    async def fill(self, ids, *encoders):
        await self.refresher.start()
        for encoder in encoders or (ENCODER,):
            await self.features.fetch("u", list(ids), encoder, SECONDS)
        self.store.asked.clear()

    def served(self, ids, encoder=ENCODER):
        """Prices as served without the store; None where the cache misses the item."""
        lookup = self.cache.begin(list(ids), encoder)
        missing = set(lookup.missing)
        self.cache.fill_defaults(lookup)
        numbers = lookup.block().numbers[:, 0].tolist()
        return [None if item_id in missing else 10 + 4 * number for item_id, number in zip(ids, numbers, strict=True)]


async def until(true):
    async with asyncio.timeout(SECONDS):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_announced_items_that_are_held_are_read_anew_for_every_model_and_others_are_not(prices):
    line = Line(prices)
    await line.fill(["i1", "i2", "i3"], ENCODER, OTHER)
    prices.update({"i1": 14.0, "i3": 18.0, "i9": 22.0})
    line.announced.tell("i1", "i9", "i3")
    assert await line.refresher.step() is False
    assert line.store.asked == [["i1", "i3"]]
    for encoder in (ENCODER, OTHER):
        assert line.served(["i1", "i2", "i3", "i9"], encoder) == [14.0, 10.0, 18.0, None]
    assert line.cache.counts.refreshed == 2


async def test_refreshed_rows_are_encoded_before_a_request_needs_them(prices, monkeypatch):
    line = Line(prices)
    await line.fill(["i1"], ENCODER, OTHER)
    line.announced.tell("i1")
    await line.refresher.step()
    monkeypatch.setattr(item_rows, "encode_items", None)
    for encoder in (ENCODER, OTHER):
        assert line.cache.begin(["i1"], encoder).missing == []


async def test_an_item_that_was_absent_is_found_by_the_next_request(prices):
    line = Line(prices)
    await line.fill(["new"])
    prices["new"] = 14.0
    line.announced.tell("new")
    await line.refresher.step()
    assert line.store.asked == []
    assert (await line.features.fetch("u", ["new"], ENCODER, SECONDS)).unknown_items == 0


async def test_an_announced_item_that_is_gone_is_served_as_absent(prices):
    line = Line(prices)
    await line.fill(["i1"])
    del prices["i1"]
    line.announced.tell("i1")
    await line.refresher.step()
    assert (await line.features.fetch("u", ["i1"], ENCODER, SECONDS)).unknown_items == 1


async def test_many_items_are_read_in_chunks_and_the_rest_goes_on_serving(prices):
    line = Line(prices)
    ids = list(prices)
    await line.fill(ids)
    prices.update(dict.fromkeys(ids, 14.0))
    seen = []
    line.store.while_reading = lambda: seen.append(line.served(ids))
    line.announced.tell(*ids)
    await line.refresher.step()
    assert [len(chunk) for chunk in line.store.asked] == [500, 500, 200]
    assert [(each.count(10.0), each.count(14.0)) for each in seen] == [(1_200, 0), (700, 500), (200, 1_000)]
    assert line.served(ids) == [14.0] * 1_200


async def test_a_gap_reads_everything_held_anew_and_forgets_what_was_absent(prices):
    line = Line(prices)
    ids = list(prices)
    await line.fill([*ids, "new"])
    prices.update(dict.fromkeys([*ids, "new"], 14.0))
    line.announced.tell(gap=True)
    await line.refresher.step()
    assert sorted(item_id for chunk in line.store.asked for item_id in chunk) == sorted(ids)
    assert max(map(len, line.store.asked)) <= 500
    assert line.served([*ids, "new"]) == [14.0] * 1_200 + [None]
    assert line.refresher.counts.gaps == 1


async def test_after_a_gap_rows_of_a_store_that_is_empty_go_on_serving(prices):
    line = Line(prices)
    await line.fill(["i1"])
    prices.clear()
    line.announced.tell(gap=True)
    await line.refresher.step()
    assert line.served(["i1"]) == [10.0]


async def test_a_value_at_fault_leaves_the_old_row(prices):
    line = Line(prices)
    await line.fill(["i1"])
    line.store.doubtful = {"i1"}
    line.announced.tell("i1")
    await line.refresher.step()
    assert line.served(["i1"]) == [10.0]


@pytest.mark.parametrize("gap", [False, True])
async def test_what_trouble_with_the_store_left_undone_is_done_later(prices, gap):
    line = Line(prices)
    ids = list(prices)
    await line.fill(ids)
    prices.update(dict.fromkeys(ids, 14.0))
    line.announced.tell(*(() if gap else ids), gap=gap)
    reads = iter(range(10))

    def fails_at_the_second():
        line.store.trouble = StoreUnavailableError("timeout") if next(reads) == 0 else None

    line.store.while_reading = fails_at_the_second
    with pytest.raises(StoreUnavailableError):
        await line.refresher.step()
    assert set(line.served(ids)) == {10.0, 14.0}
    line.store.trouble = None
    await line.refresher.step()
    assert line.served(ids) == [14.0] * 1_200


async def test_a_request_that_read_before_the_change_does_not_bring_the_old_value_back(prices):
    line = Line(prices)
    await line.fill([])
    lookup = line.cache.begin(["i1"], ENCODER)
    prices["i1"] = 14.0
    line.announced.tell("i1")
    await line.refresher.step()
    line.cache.fill(lookup, {"i1": ItemFeatures({"price": 10.0})})
    assert line.served(["i1"]) == [None]


async def test_a_refreshed_item_is_held_to_its_ttl(prices):
    """The record is as old as the store says, however late it is refreshed."""
    now = [time.time()]
    views = shop_views(item={"key": "item_id", "ttl_s": 60, "fields": [{"name": "item_id", "kind": "category"}]})
    line = Line(prices, views=views, wall_clock=lambda: now[0])
    await line.fill(["i1"])
    prices["i1"] = 14.0
    now[0] += 120.0
    line.announced.tell("i1")
    await line.refresher.step()
    assert line.served(["i1"]) == [10.0]  # the default
    fetched = await line.features.fetch("u", ["i1"], ENCODER, SECONDS)
    assert (fetched.items_stale, fetched.unknown_items) == (("price",), 0)


@pytest.mark.parametrize("trouble", [StoreUnavailableError("refused"), RuntimeError("unforeseen")])
@pytest.mark.parametrize("where", ["store", "announced"])
async def test_the_loop_outlives_trouble(prices, trouble, where):
    line = Line(prices)
    await line.fill(["i1"])
    getattr(line, where).trouble = trouble
    prices["i1"] = 14.0
    line.announced.tell("i1")
    task = asyncio.create_task(line.refresher.run())
    await until(lambda: line.refresher.counts.troubles >= 3)
    assert line.served(["i1"]) == [10.0]
    getattr(line, where).trouble = None
    await until(lambda: line.served(["i1"]) == [14.0])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_refresher_that_never_took_a_position_reads_everything_held_once(prices):
    line = Line(prices)
    line.announced.trouble = StoreUnavailableError("refused")
    await line.fill(["i1"])
    line.announced.trouble = None
    prices["i1"] = 14.0
    await line.refresher.step()
    assert line.served(["i1"]) == [14.0]
    await line.refresher.step()
    assert len(line.store.asked) == 1


VIEWS = """
name: shop
tables: {interactions: interactions.csv, users: users.csv, items: items.csv}
interactions: {time: ts}
user: {key: uid, fields: [{name: country, kind: category}]}
item: {key: iid, fields: [{name: item, kind: category, column: iid}, {name: price, kind: number}]}
labels: [{name: click, column: clicked}]
history: {length: 3}
"""


def shop(folder, ids):
    (folder / "views.yaml").write_text(VIEWS)
    (folder / "users.csv").write_text("uid,country\nu,no\n")
    (folder / "interactions.csv").write_text("uid,iid,ts,clicked\nu,i0,1,1\nu,i1,2,0\n")
    (folder / "items.csv").write_text("iid,price\n" + "".join(f"{item_id},10\n" for item_id in ids))
    views = load_views(folder / "views.yaml")
    return views, read_tables(views, folder)


async def test_a_bulk_rematerialization_swaps_without_a_cold_start(tmp_path, valkey_url):
    ids = [f"i{number}" for number in range(3_000)]
    views, tables = shop(tmp_path, ids)
    writer, changes = RedisWriter.from_url(valkey_url), ItemChanges.from_url(valkey_url, timeout_s=SECONDS)
    store = RedisStore.from_url(valkey_url, limits=ReadLimits(SECONDS, SECONDS, SECONDS))
    cache = ItemCache(CacheRule())
    features = OnlineFeatures(store, cache)
    refresher = ItemRefresher(changes, store, cache, FAST, freshness=features.freshness)
    await materialize(tables, views, writer)
    await refresher.start()
    for encoder in (ENCODER, OTHER):
        await features.preload(ids, encoder, SECONDS)
    task = asyncio.create_task(refresher.run())
    misses = cache.counts.misses
    tables = replace(tables, items=tables.items.with_columns(pl.lit(14.0).alias("price")))
    writing = asyncio.create_task(materialize(tables, views, writer))
    prices, bad_rows, encoder = set(), 0, ENCODER
    async with asyncio.timeout(30):
        while prices != {14.0}:
            fetched = await features.fetch("u", ids, encoder := OTHER if encoder is ENCODER else ENCODER, SECONDS)
            bad_rows += fetched.unknown_items + fetched.stale_items + (fetched.unavailable is not None)
            prices = set((10 + 4 * fetched.items.numbers[:, 0]).tolist())
            assert prices <= {10.0, 14.0}
    await writing
    assert (bad_rows, cache.counts.misses - misses) == (0, 0)
    np.testing.assert_array_equal((await features.fetch("u", ids, OTHER, SECONDS)).items.numbers, np.ones((3_000, 1)))
    assert cache.counts.refreshed >= 3_000
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for part in (store, changes, writer):
        await part.close()
