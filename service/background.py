"""What a process does beside answering: listen to SIGHUP, carry counts of the hot path into the metrics, collect garbage."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Iterator, Mapping

from feature_store.item_cache import ItemCache
from feature_store.item_refresh import ItemRefresher
from service.activation import Activation
from service.telemetry import Telemetry

_COLLECT_AFTER = (50_000, 20, 100)
"""Requests make next to no cycles, and the collector's default, a look at every 700 new objects, took 5 % of their time."""

_log = logging.getLogger("rankline.background")


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """Leave what start-up made out of all collections, for it lives as long as the process, and collect the rest rarely."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextlib.contextmanager
def reload_on_hangup(activation: Activation, tasks: set[asyncio.Task[None]]) -> Iterator[None]:
    """SIGHUP reloads the plan; only a main thread can listen to signals, and a test's server may not run in it."""
    loop = asyncio.get_running_loop()

    async def reload() -> None:
        await activation.reload()

    def start_reload() -> None:
        task = loop.create_task(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        loop.add_signal_handler(signal.SIGHUP, start_reload)
    except (RuntimeError, ValueError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def count_items(cache: ItemCache, refresher: ItemRefresher, telemetry: Telemetry, every_s: float = 1.0) -> None:
    """Carry the item cache's counts and the telemetry's tallies into the metrics, once more at the end.

    The hot path only adds numbers.
    """
    told: dict[str, int] = {}
    try:
        while True:
            try:
                told = _tell_items(cache, refresher, telemetry, told)
                telemetry.carry()
            except Exception:  # a full disk under shared metrics, say: the next second may bring them over
                _log.exception("metrics were not carried")
            await asyncio.sleep(every_s)
    finally:
        telemetry.carry()


def _tell_items(cache: ItemCache, refresher: ItemRefresher, telemetry: Telemetry, told: Mapping[str, int]) -> dict[str, int]:
    """What the cache counted since it was ``told``; gives what it counted in all."""
    counts, refresh = cache.counts, refresher.counts
    lookups = {"hit": counts.hits, "miss": counts.misses}
    changes = {"evicted": counts.evictions, "refreshed": counts.refreshed, "gap": refresh.gaps}
    for outcome, count in lookups.items():
        telemetry.looked_up(outcome, count - told.get(outcome, 0))
    for what, count in changes.items():
        telemetry.items_changed(what, count - told.get(what, 0))
    telemetry.items_held(known=counts.held, unknown=counts.unknown)
    return lookups | changes
