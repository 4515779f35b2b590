"""Single flight: of all requests that miss an item at one time, one reads it and the others wait for that read.

A read runs in a task of its own, so it ends, and its items are kept, whether or not the request that began it is still there.
Of another request's read only the items can be had, never the user it was made for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from feature_store.errors import StoreUnavailableError, UnavailableReason
from feature_store.freshness import ItemFreshness
from feature_store.item_cache import ItemCache
from feature_store.item_rows import ItemFeatures
from feature_store.stored import StoredRecords

NOBODY = "\x00nobody"
"""A read always names a user; requests, events and tables may not name this one: ids hold no control characters."""
ITEMS_UNAVAILABLE = "items_unavailable"
_READ_LIMIT_S = 2.0
"""A store has shorter timeouts of its own; this bounds how long one that has none keeps others waiting for an item."""


class RecordReader(Protocol):
    """What is needed of a store."""

    async def read(self, user_id: str, item_ids: Sequence[str], timeout_s: float | None = None) -> StoredRecords:
        """One round trip, which ends within about ``timeout_s``.

        Raises:
            StoreUnavailableError: no usable answer, or none in time.
        """


@dataclass(frozen=True, slots=True)
class SharedItems:
    """What a read said of its items: as in ``StoredRecords``, so far as it may be used; ``faults`` has no word on the user."""

    items: Mapping[str, ItemFeatures | None]
    faults: tuple[str, ...]


ItemsUnderWay = Mapping[str, asyncio.Future[SharedItems]]
Answer = tuple[StoredRecords, UnavailableReason | None]
NOTHING = StoredRecords(None, None, {})
"""What is known where the store gave no answer."""


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """What one read brought: ``items`` as far as they may be used, the user as stored; or why it is ``unavailable``."""

    stored: StoredRecords
    items: Mapping[str, ItemFeatures | None]
    unavailable: UnavailableReason | None


_TIMED_OUT = ReadAnswer(NOTHING, {}, "timeout")


class ItemReads:
    """The reads under way, by item; for one event loop."""

    def __init__(self, store: RecordReader, cache: ItemCache, freshness: ItemFreshness) -> None:
        self._store = store
        self._cache = cache
        self._freshness = freshness
        self._under_way: dict[str, asyncio.Future[SharedItems]] = {}
        self._tasks: set[asyncio.Task[ReadAnswer]] = set()

    def under_way(self, item_ids: Iterable[str]) -> ItemsUnderWay:
        """Those of the items that are being read already."""
        under_way = self._under_way
        return {item_id: under_way[item_id] for item_id in item_ids if item_id in under_way} if under_way else {}

    async def read(self, user_id: str, item_ids: Sequence[str], moment: int, timeout_s: float) -> ReadAnswer:
        """One read of a user and items, which are kept in the cache as of ``moment``, even if nobody waits until the end."""
        if timeout_s <= 0:
            return _TIMED_OUT
        if not item_ids:  # nobody can wait for this read
            stored, unavailable = await read_within(self._store, user_id, item_ids, timeout_s)
            return ReadAnswer(stored, {}, unavailable)
        task = asyncio.get_running_loop().create_task(self._read(user_id, item_ids, moment))
        shared: asyncio.Future[SharedItems] = asyncio.get_running_loop().create_future()
        self._under_way.update(dict.fromkeys(item_ids, shared))
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, item_ids, shared))
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        return task.result() if done else _TIMED_OUT

    async def _read(self, user_id: str, item_ids: Sequence[str], moment: int) -> ReadAnswer:
        stored, unavailable = await read_within(self._store, user_id, item_ids, _READ_LIMIT_S)
        items = self._freshness.of(stored.items)
        self._cache.keep(items, moment)
        return ReadAnswer(stored, items, unavailable)

    def _end(self, item_ids: Sequence[str], shared: asyncio.Future[SharedItems], task: asyncio.Task[ReadAnswer]) -> None:
        self._tasks.discard(task)
        for item_id in item_ids:
            self._under_way.pop(item_id, None)
        failed = task.cancelled() or task.exception() is not None
        read = _TIMED_OUT if failed else task.result()
        faults = tuple(fault for fault in read.stored.faults if fault.startswith("item_"))
        shared.set_result(SharedItems(read.items, faults))


async def shared_items(under_way: ItemsUnderWay, timeout_s: float) -> SharedItems:
    """What others' reads say of the items, once they have all ended or the time is up.

    ``faults`` tells of items of which nothing is known: those of their reads, or ``items_unavailable``.
    """
    pending = {shared for shared in under_way.values() if not shared.done()}
    if pending and timeout_s > 0:
        await asyncio.wait(pending, timeout=timeout_s)
    found: dict[str, ItemFeatures | None] = {}
    faults: dict[str, None] = {}
    for item_id, shared in under_way.items():
        read = shared.result() if shared.done() else None
        if read is not None and item_id in read.items:
            found[item_id] = read.items[item_id]
        else:
            faults.update(dict.fromkeys(read.faults if read is not None and read.faults else (ITEMS_UNAVAILABLE,)))
    return SharedItems(found, tuple(faults))


async def read_within(store: RecordReader, user_id: str, item_ids: Sequence[str], timeout_s: float) -> Answer:
    """One read, and why it brought nothing if it did not."""
    try:
        return await store.read(user_id, item_ids, timeout_s), None
    except StoreUnavailableError as error:
        return NOTHING, error.reason
