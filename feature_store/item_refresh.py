"""Follows the announcements of changed items and reads those that the cache holds anew; until then the old rows serve.

An item that is not held costs nothing, one known as absent is forgotten, so that the next request finds it. When announcements
were missed, everything held is read anew, slot by slot, at a bounded pace.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from feature_store.errors import StoreUnavailableError
from feature_store.freshness import ItemFreshness
from feature_store.item_cache import ItemCache
from feature_store.item_reads import NOBODY, RecordReader, read_within
from feature_store.redis.changes import Changes, StreamPosition

_log = logging.getLogger("rankline.item_refresh")

_READ_ITEMS = 500
_TURN_ITEMS = 100
"""Items put into the cache before other tasks of the event loop have their turn."""


class ChangeSource(Protocol):
    """What is needed of the announcements."""

    async def read(self, after: StreamPosition | None) -> Changes:
        """What was announced after a position.

        Raises:
            StoreUnavailableError: no usable answer.
        """


@dataclass(frozen=True, slots=True)
class RefreshRule:
    """The pace. Times in seconds; a pause after trouble doubles from ``first_pause_s`` and is shortened by up to ``jitter``.

    ``chunk_pause_s`` lies between two reads of 500 items: with 0.02 a cache of 200,000 is read anew in 8 s and the reads'
    own time.
    """

    poll_s: float = 1.0
    chunk_pause_s: float = 0.02
    read_timeout_s: float = 1.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 10.0
    jitter: float = 0.5


@dataclass(frozen=True, slots=True)
class RefreshCounts:
    """Since the start: ``gaps`` in the announcements, ``troubles`` with the store. The cache counts what was refreshed."""

    gaps: int
    troubles: int


class ItemRefresher:
    """Keeps one cache up to date; a background task of one event loop."""

    def __init__(
        self,
        changes: ChangeSource,
        store: RecordReader,
        cache: ItemCache,
        rule: RefreshRule | None = None,
        *,
        freshness: ItemFreshness | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """``freshness``: of the requests that use the cache (``OnlineFeatures.freshness``); without it nothing expires."""
        self._freshness = freshness or ItemFreshness()
        self._changes = changes
        self._store = store
        self._cache = cache
        self._rule = rule or RefreshRule()
        self._draw = draw
        self._position: StreamPosition | None = None
        self._announced: dict[str, None] = {}
        self._swept = cache.slot_count
        self._gaps = self._troubles = 0

    @property
    def counts(self) -> RefreshCounts:
        """Counts so far."""
        return RefreshCounts(self._gaps, self._troubles)

    async def start(self) -> None:
        """Note where the announcements stand: before the cache is first filled, or all that is in it is read a second time.

        Trouble with the store is left to ``run``.
        """
        try:
            self._position = (await self._changes.read(None)).position
        except StoreUnavailableError as error:
            _log.warning("item changes cannot be read", extra={"reason": error.reason})

    async def run(self) -> None:
        """Follow the announcements until cancelled; trouble is waited out."""
        failures = 0
        while True:
            try:
                more = await self.step()
                failures = 0
                pause_s = 0.0 if more else self._rule.poll_s
            except Exception as error:
                failures += 1
                self._troubles += 1
                if failures == 1:
                    _log.warning("items cannot be refreshed", extra={"reason": str(error)}, exc_info=_unforeseen(error))
                pause_s = self._pause_s(failures)
            await asyncio.sleep(pause_s)

    async def step(self) -> bool:
        """Read one batch of announcements and all that it makes outdated; tells whether more announcements are there.

        What an exception leaves undone is done by the next step.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        await self._refresh_announced()
        await self._sweep()
        changes = await self._changes.read(self._position)
        if changes.gap:
            self._gaps += 1
            self._swept = 0
        self._announced.update(dict.fromkeys(changes.ids))
        self._position = changes.position
        await self._refresh_announced()
        await self._sweep()
        return changes.more

    async def _refresh_announced(self) -> None:
        while self._announced:
            ids = list(islice(self._announced, _READ_ITEMS))
            await self._refresh(self._cache.outdated(ids), gone=True)
            for item_id in ids:
                del self._announced[item_id]

    async def _sweep(self) -> None:
        """Go through the slots after a gap.

        An item that the store does not have any more keeps its row until it expires: a gap may mean a store that is being
        filled anew.
        """
        while self._swept < self._cache.slot_count:
            stop = self._swept + _READ_ITEMS
            await self._refresh(self._cache.outdated_between(self._swept, stop), gone=False)
            self._swept = stop

    async def _refresh(self, item_ids: list[str], *, gone: bool) -> None:
        if not item_ids:
            await asyncio.sleep(0)
            return
        moment = self._cache.moment()
        stored, unavailable = await read_within(self._store, NOBODY, item_ids, self._rule.read_timeout_s)
        if unavailable is not None:
            raise StoreUnavailableError(unavailable)
        found = [(item_id, record) for item_id, record in stored.items.items() if gone or record is not None]
        for start in range(0, len(found), _TURN_ITEMS):
            self._cache.replace(self._freshness.of(dict(found[start : start + _TURN_ITEMS])), moment)
            await asyncio.sleep(0)
        await asyncio.sleep(self._rule.chunk_pause_s)

    def _pause_s(self, failures: int) -> float:
        longest: float = min(self._rule.first_pause_s * 2 ** min(failures - 1, 16), self._rule.longest_pause_s)
        return longest * (1 - self._rule.jitter * self._draw())


def _unforeseen(error: Exception) -> bool:
    return not isinstance(error, StoreUnavailableError)
