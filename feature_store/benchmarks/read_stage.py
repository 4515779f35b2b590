"""A store with made items in it, both as the service keeps them and as plain hashes, and the ways to read them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self

from feature_store.benchmarks.made_items import USER, MadeItems, Values
from feature_store.benchmarks.timing import Way
from feature_store.encoding.encoder import FeatureEncoder
from feature_store.errors import BenchmarkError
from feature_store.item_cache import CacheRule, ItemCache
from feature_store.item_rows import encode_items
from feature_store.keys import KeySpace
from feature_store.online import FetchedFeatures, OnlineFeatures
from feature_store.records import encode_features, encode_history, feature_record, history_record
from feature_store.redis.plain_hashes import PlainHashes, Texts
from feature_store.redis.plain_records import PlainRecords
from feature_store.redis.reader import RedisStore
from feature_store.redis.writer import RedisWriter
from feature_store.store_settings import ReadLimits
from feature_store.stored import StoredRecords

READ = "read and decode"
FETCH_COLD = "fetch to encoded rows, cache empty"
FETCH_WARM = "fetch to encoded rows, cache full"
LOOP = "plain loop, redis-py, HGETALL each"
ASYNC_LOOP = "plain loop, redis.asyncio, HGETALL each"
PIPELINE = "plain pipeline, redis-py, HGETALL each"
LOOP_ROWS = "plain loop, redis-py, then encoded rows"
PIPELINE_ROWS = "plain pipeline, redis-py, then encoded rows"
RECORDS_MGET = "plain MGET of the records, redis.asyncio, bytes"
RECORDS_GETS = "plain pipeline of GETs of the records, redis.asyncio, bytes"
FIELDS_LOOP = "plain loop, redis-py, HMGET of the used fields each"

_BATCH = 500
_LIMITS = ReadLimits(connect_timeout_s=5.0, read_timeout_s=5.0, pool_timeout_s=5.0)
_TIMEOUT_S = 5.0
_CACHE = CacheRule(ttl_s=86_400.0)
Reading = Callable[[Sequence[str]], Awaitable[Sequence[Texts]]]


class ReadStage:
    """Made items behind one URL; a context manager that closes its connections."""

    def __init__(self, url: str, items: MadeItems, used_fields: int, prefix: str = "rankline") -> None:
        self.items = items
        self.encoder: FeatureEncoder = items.encoder(used_fields)
        self._used = tuple(items.fields)[:used_fields]
        self._url = url
        self._keys = KeySpace(prefix)
        self.store = RedisStore.from_url(url, keys=self._keys, limits=_LIMITS)
        self.plain = PlainHashes(url)
        self.records = PlainRecords(url)
        self._warm = OnlineFeatures(self.store, ItemCache(_CACHE))

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.plain)
            await stack.enter_async_context(self.records)
            stack.push_async_callback(self.store.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def write(self, views: Sequence[int] = (1,)) -> None:
        """Write the user, the history and the items, and the hashes for each of these numbers of views."""
        writer = RedisWriter.from_url(self._url, keys=self._keys)
        try:
            history = encode_history(history_record(USER, *self.items.history()))
            user = encode_features(feature_record(USER, 0.0, {"age": 30, "country": "no"}))
            await writer.write_many([(self._keys.user(USER), user), (self._keys.history(USER), history)])
            for start in range(0, len(self.items.ids), _BATCH):
                ids = self.items.ids[start : start + _BATCH]
                records = [feature_record(item_id, 0.0, self.items.values(item_id)) for item_id in ids]
                await writer.write_many([(self._keys.item(each.owner), encode_features(each)) for each in records])
                for count in views:
                    self.plain.write({k: v for item_id in ids for k, v in self.items.hashes(item_id, count).items()})
        finally:
            await writer.close()

    async def read(self, ids: Sequence[str]) -> StoredRecords:
        """The service's read: user, history and items, checked and decoded."""
        return await self.store.read(USER, ids)

    async def fetch_warm(self, ids: Sequence[str]) -> FetchedFeatures:
        """The service's fetch, its cache as earlier fetches left it."""
        return await self._warm.fetch(USER, ids, self.encoder, _TIMEOUT_S)

    def cold(self, ids: Sequence[str]) -> Way:
        """The service's fetch with an empty cache, made here."""
        cache = ItemCache(_CACHE)
        cache.begin([], self.encoder)  # its arrays belong to the start of a process
        features = OnlineFeatures(self.store, cache)
        return lambda: features.fetch(USER, ids, self.encoder, _TIMEOUT_S)

    async def loop(self, ids: Sequence[str], views: int = 1) -> list[Values]:
        """The plain way: items alone, a hash and a call each, texts made into values."""
        return self.items.from_texts(self.plain.loop(self.items.hash_keys(ids, views)), views)

    async def async_loop(self, ids: Sequence[str]) -> list[Values]:
        """The same with the asyncio client."""
        return self.items.from_texts(await self.plain.async_loop(self.items.hash_keys(ids)))

    async def pipeline(self, ids: Sequence[str]) -> list[Values]:
        """The better plain way: the same in one pipeline."""
        return self.items.from_texts(self.plain.pipeline(self.items.hash_keys(ids)))

    async def fields_loop(self, ids: Sequence[str]) -> list[Values]:
        """The plain loop over the fields alone that the model uses."""
        return self.items.from_texts(self.plain.fields_loop(self.items.hash_keys(ids), self._used))

    async def rows(self, ids: Sequence[str], values: Awaitable[Sequence[Values]]) -> object:
        """What a plain way read, as encoded rows."""
        return encode_items(self.encoder, ids, list(await values)).block

    def _record_keys(self, ids: Sequence[str]) -> list[bytes]:
        return [self._keys.item(item_id) for item_id in ids]

    def ways(self, ids: Sequence[str]) -> Mapping[str, Way]:
        """Every way to read these items."""
        return {
            READ: lambda: self.read(ids),
            FETCH_COLD: self.cold(ids),
            FETCH_WARM: lambda: self.fetch_warm(ids),
            LOOP: lambda: self.loop(ids),
            ASYNC_LOOP: lambda: self.async_loop(ids),
            PIPELINE: lambda: self.pipeline(ids),
            RECORDS_MGET: lambda: self.records.mget(self._record_keys(ids)),
            RECORDS_GETS: lambda: self.records.gets(self._record_keys(ids)),
            LOOP_ROWS: lambda: self.rows(ids, self.loop(ids)),
            PIPELINE_ROWS: lambda: self.rows(ids, self.pipeline(ids)),
        }

    async def check(self, ids: Sequence[str], views: Sequence[int] = (1,)) -> None:
        """Prove that all ways bring the same.

        Raises:
            BenchmarkError: they do not.
        """
        expected = [self.items.values(item_id) for item_id in ids]
        stored = (await self.read(ids)).items
        ours = [dict(record.values) for item_id in ids if (record := stored.get(item_id)) is not None]
        plain = [await self.loop(ids, count) for count in views]
        fetched = await self.cold(ids)()
        rows = encode_items(self.encoder, ids, expected).block
        assert isinstance(fetched, FetchedFeatures)
        same_rows = (fetched.items.categories == rows.categories).all() and (fetched.items.numbers == rows.numbers).all()
        if ours != expected or any(each != expected for each in plain) or not same_rows or fetched.unknown_items:
            raise BenchmarkError("the ways to read do not bring the same items")
