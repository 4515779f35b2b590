"""All features of one request: the user and the history from the store, the items from the cache, in one round trip.

Items that another request is reading already are not asked for again; their rows come from that read, if it ends in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from feature_store.encoding.encoder import Block, FeatureEncoder, Floats
from feature_store.encoding.values import RawValue
from feature_store.errors import UnavailableReason
from feature_store.freshness import NEVER_EXPIRES, FreshnessRule, ItemFreshness, fresh_values
from feature_store.item_cache import ItemCache
from feature_store.item_lookup import Lookup
from feature_store.item_reads import NOBODY, NOTHING, ItemReads, RecordReader, read_within, shared_items
from feature_store.item_table import ItemTable, SharedRows
from feature_store.records import FeatureRecord
from feature_store.stored import StoredRecords
from feature_store.views import FeatureViews

_PRELOAD_ITEMS = 500


class FetchedFeatures(msgspec.Struct, frozen=True, gc=False):
    """The raw features of a user, the encoded ones of the candidates, and what is missing of them.

    ``history_times`` are in the unit of the interactions table; ``..._written_at`` are Unix seconds of the writer's clock.
    ``user`` is None where the store has no sound features of the user, and holds those that are still good; ``user_stale``
    names the expired ones. The history is empty where it has none. ``unknown_items`` counts rows encoded without the item's
    own features, ``stale_items`` rows from outlived ones, which the store could not be asked for again; ``items_stale`` names
    the fields that some row was made without because they had expired. ``unavailable`` names why the store gave nothing;
    ``faults`` names values that could not be used (``StoredRecords.faults``, ``items_unavailable`` where another's read of
    some items came to nothing). ``item_part``: float32 [candidates, width], the rows of the item table, if one was given.

    A struct, for a frozen dataclass of so many fields costs a microsecond; ``gc=False`` is safe: it is never part of a cycle.
    """

    user: Mapping[str, RawValue] | None
    user_stale: tuple[str, ...]
    user_written_at: float | None
    history_items: list[str]
    history_times: list[float]
    history_written_at: float | None
    history_version: int | None
    lookup: Lookup
    item_part: Floats | SharedRows | None
    unknown_items: int
    stale_items: int
    items_stale: tuple[str, ...]
    encoding_ms: float
    unavailable: UnavailableReason | None
    faults: tuple[str, ...]

    @property
    def items(self) -> Block:
        """The candidates' encoded features as they were at the read. Copied only when asked for: an item part needs none."""
        return self.lookup.block()


class OnlineFeatures:
    """Fetches a request's features; trouble with the store is part of the answer, never an exception."""

    def __init__(
        self,
        store: RecordReader,
        cache: ItemCache,
        *,
        views: FeatureViews | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``views`` say how long values may be used; without them, for ever."""
        self._store = store
        self._cache = cache
        self._freshness = ItemFreshness(NEVER_EXPIRES if views is None else FreshnessRule.of(views.item), wall_clock)
        self._reads = ItemReads(store, cache, self._freshness)
        self._user_rule = NEVER_EXPIRES if views is None else FreshnessRule.of(views.user)
        self._wall_clock = wall_clock

    @property
    def freshness(self) -> ItemFreshness:
        """How long the items' values are used here: what refreshes the cache must go by the same."""
        return self._freshness

    async def fetch(
        self,
        user_id: str,
        item_ids: Sequence[str],
        encoder: FeatureEncoder,
        timeout_s: float,
        *,
        item_table: ItemTable | None = None,
    ) -> FetchedFeatures:
        """The features of a user and of candidates (duplicates allowed), within about ``timeout_s``.

        Args:
            item_table: Where the item part of a collapsed model is kept: its rows are gathered, too.
        """
        started = time.perf_counter()
        lookup = self._cache.begin(item_ids, encoder, item_table)
        encoding_s = time.perf_counter() - started
        if lookup.missing:
            return await self._fetch_missing(user_id, lookup, encoding_s, timeout_s)
        # The common case: every item is held, and only the user is read.
        if timeout_s <= 0:
            return self._fetched(lookup, encoding_s, NOTHING, "timeout", ())
        stored, unavailable = await read_within(self._store, user_id, (), timeout_s)
        return self._fetched(lookup, encoding_s, stored, unavailable, stored.faults)

    async def _fetch_missing(self, user_id: str, lookup: Lookup, encoding_s: float, timeout_s: float) -> FetchedFeatures:
        deadline = time.monotonic() + timeout_s
        under_way = self._reads.under_way(lookup.missing)
        unread = [item_id for item_id in lookup.missing if item_id not in under_way]
        read = await self._reads.read(user_id, unread, lookup.moment, timeout_s)
        shared = await shared_items(under_way, deadline - time.monotonic())
        started = time.perf_counter()
        self._cache.complete(lookup, {**shared.items, **read.items})
        encoding_s += time.perf_counter() - started
        return self._fetched(lookup, encoding_s, read.stored, read.unavailable, read.stored.faults + shared.faults)

    def _fetched(
        self,
        lookup: Lookup,
        encoding_s: float,
        stored: StoredRecords,
        unavailable: UnavailableReason | None,
        faults: tuple[str, ...],
    ) -> FetchedFeatures:
        user, history = stored.user, stored.history
        values, stale = self._fresh_user(user)
        return FetchedFeatures(
            user=values,
            user_stale=stale,
            user_written_at=None if user is None else user.written_at,
            history_items=[] if history is None else history.items,
            history_times=[] if history is None else history.times,
            history_written_at=None if history is None else history.written_at,
            history_version=None if history is None else history.version,
            lookup=lookup,
            item_part=lookup.item_part(),
            unknown_items=lookup.unknown_count,
            stale_items=lookup.stale_count,
            items_stale=lookup.stale_fields,
            encoding_ms=encoding_s * 1e3,
            unavailable=unavailable,
            faults=faults,
        )

    def _fresh_user(self, user: FeatureRecord | None) -> tuple[Mapping[str, RawValue] | None, tuple[str, ...]]:
        """The user's values that may still be used, and the names of the expired ones."""
        if user is None or not self._user_rule.expires:
            return None if user is None else user.values, ()
        fresh = fresh_values(user, self._user_rule, self._wall_clock())
        return fresh.values, fresh.stale

    async def preload(
        self, item_ids: Sequence[str], encoder: FeatureEncoder, timeout_s: float, *, item_table: ItemTable | None = None
    ) -> int:
        """Fill the cache before the first request, so that it meets no cold one; gives how many items are held.

        The store being away ends it early, without an error: requests will fetch what is missing.
        """
        for start in range(0, len(item_ids), _PRELOAD_ITEMS):
            lookup = self._cache.begin(item_ids[start : start + _PRELOAD_ITEMS], encoder, item_table)
            stored, unavailable = await read_within(self._store, NOBODY, lookup.missing, timeout_s)
            if unavailable is not None:
                break
            self._cache.fill(lookup, self._freshness.of(stored.items))
            if item_table is not None:
                self._cache.begin(item_ids[start : start + _PRELOAD_ITEMS], encoder, item_table)  # derives what is held now
        return self._cache.counts.held
