"""All features of one request: the user and the history from the store, the items from the cache, in one round trip."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from feature_store.encoding.encoder import Block, FeatureEncoder
from feature_store.encoding.values import RawValue
from feature_store.errors import StoreUnavailableError, UnavailableReason
from feature_store.item_cache import ItemCache
from feature_store.records import FeatureRecord
from feature_store.stored import StoredRecords

USER_OUTSIDE_MAX_AGE = "user_outside_max_age"


_PRELOAD_ITEMS = 500
_NOBODY = "(preload)"
"""A read always names a user; this one is in no store."""


class RecordReader(Protocol):
    """What is needed of a store."""

    async def read(self, user_id: str, item_ids: Sequence[str]) -> StoredRecords:
        """One round trip.

        Raises:
            StoreUnavailableError: no usable answer.
        """


@dataclass(frozen=True, slots=True)
class FetchedFeatures:
    """The raw features of a user, the encoded ones of the candidates, and what is missing of them.

    ``history_times`` are in the unit of the interactions table; ``..._written_at`` are Unix seconds of the writer's clock.
    ``user`` is None where the store has no
    (fresh, sound) features of the user; the history is empty where it has none. ``unknown_items`` counts rows encoded
    without the item's own features, ``stale_items`` rows from expired ones. ``unavailable`` names why the store gave
    nothing; ``faults`` names values that could not be used (``StoredRecords.faults``, ``user_outside_max_age``).
    """

    user: Mapping[str, RawValue] | None
    user_written_at: float | None
    history_items: list[str]
    history_times: list[float]
    history_written_at: float | None
    history_version: int | None
    items: Block
    unknown_items: int
    stale_items: int
    encoding_ms: float
    unavailable: UnavailableReason | None
    faults: tuple[str, ...]


class OnlineFeatures:
    """Fetches a request's features; trouble with the store is part of the answer, never an exception."""

    def __init__(
        self,
        store: RecordReader,
        cache: ItemCache,
        *,
        user_max_age_s: float | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``user_max_age_s`` refuses user features that were written longer ago."""
        self._store = store
        self._cache = cache
        self._user_max_age_s = user_max_age_s
        self._wall_clock = wall_clock

    async def fetch(self, user_id: str, item_ids: Sequence[str], encoder: FeatureEncoder, timeout_s: float) -> FetchedFeatures:
        """The features of a user and of candidates (duplicates allowed), within about ``timeout_s``."""
        started = time.perf_counter()
        lookup = self._cache.begin(item_ids, encoder)
        encoding_s = time.perf_counter() - started
        stored, unavailable = await self._read(user_id, lookup.missing, timeout_s)
        started = time.perf_counter()
        self._cache.fill(lookup, _values_of(stored))
        encoding_s += time.perf_counter() - started
        user, faults = self._fresh(stored.user)
        history = stored.history
        return FetchedFeatures(
            user=None if user is None else user.values,
            user_written_at=None if user is None else user.written_at,
            history_items=[] if history is None else history.items,
            history_times=[] if history is None else history.times,
            history_written_at=None if history is None else history.written_at,
            history_version=None if history is None else history.version,
            items=lookup.block(),
            unknown_items=lookup.unknown_count,
            stale_items=lookup.stale_count,
            encoding_ms=encoding_s * 1e3,
            unavailable=unavailable,
            faults=stored.faults + faults,
        )

    async def preload(self, item_ids: Sequence[str], encoder: FeatureEncoder, timeout_s: float) -> int:
        """Fill the cache before the first request, so that it meets no cold one; gives how many items are held.

        The store being away ends it early, without an error: requests will fetch what is missing.
        """
        for start in range(0, len(item_ids), _PRELOAD_ITEMS):
            lookup = self._cache.begin(item_ids[start : start + _PRELOAD_ITEMS], encoder)
            stored, unavailable = await self._read(_NOBODY, lookup.missing, timeout_s)
            if unavailable is not None:
                break
            self._cache.fill(lookup, _values_of(stored))
        return self._cache.counts.held

    async def _read(
        self, user_id: str, item_ids: Sequence[str], timeout_s: float
    ) -> tuple[StoredRecords, UnavailableReason | None]:
        nothing = StoredRecords(None, None, {})
        if timeout_s <= 0:
            return nothing, "timeout"
        try:
            async with asyncio.timeout(timeout_s):
                return await self._store.read(user_id, item_ids), None
        except StoreUnavailableError as error:
            return nothing, error.reason
        except TimeoutError:
            return nothing, "timeout"

    def _fresh(self, user: FeatureRecord | None) -> tuple[FeatureRecord | None, tuple[str, ...]]:
        if user is None or self._user_max_age_s is None or self._wall_clock() - user.written_at <= self._user_max_age_s:
            return user, ()
        return None, (USER_OUTSIDE_MAX_AGE,)


def _values_of(stored: StoredRecords) -> dict[str, Mapping[str, RawValue] | None]:
    return {item_id: None if record is None else record.values for item_id, record in stored.items.items()}
