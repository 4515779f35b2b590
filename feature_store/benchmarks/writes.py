"""What writing live events costs: the step in the store alone, and with the spool before it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from feature_store.benchmarks.made_events import USERS, VIEWS, made_events
from feature_store.benchmarks.timing import Spread
from feature_store.benchmarks.write_rate import Rate, Step, measure_rate
from feature_store.errors import BenchmarkError
from feature_store.events.applier import EventApplier
from feature_store.events.event import Event, encode_event
from feature_store.events.ports import SpoolMark
from feature_store.events.spool import Spool
from feature_store.keys import KeySpace
from feature_store.redis.events import RedisEvents
from feature_store.redis.plain_hashes import ServerGauge
from feature_store.redis.script_runs import open_scripts

_TIMEOUT_S = 30.0
_FSYNCS = 200
_PAGE = bytes(4_096)


@dataclass(frozen=True, slots=True)
class WritePlan:
    """How much is measured: ``seconds`` for every line. ``submissions`` are (callers at once, events each)."""

    seconds: float = 1.5
    batches: tuple[int, ...] = (1, 16, 256)
    submissions: tuple[tuple[int, int], ...] = ((1, 1), (64, 1), (1, 100), (4, 100))


@dataclass(frozen=True, slots=True)
class WriteRates:
    """Rates by what was done, and milliseconds of one fsync of 4 KiB where the spool lies."""

    apply: Mapping[str, Rate]
    spool: Mapping[str, Rate]
    spool_and_apply: Mapping[str, Rate]
    fsync_ms: Spread


async def measure_writes(url: str, directory: Path, plan: WritePlan) -> WriteRates:
    """Measure on a store and in a directory that may be filled.

    Raises:
        BenchmarkError: events were not applied.
        StoreUnavailableError, SpoolFullError, SpoolFailedError: they could not be.
    """
    gauge = ServerGauge(url)
    try:
        apply = {}
        for users, whose in ((1, "one user"), (USERS, f"{USERS:,} users")):
            for batch in plan.batches:
                apply[f"{_events(batch)} a step, {whose}"] = await _apply(url, gauge, users, batch, plan)
        spool, both = {}, {}
        for callers, count in plan.submissions:
            name = f"{_callers(callers)}, {_events(count)} each"
            load = _Load(gauge, callers, count, plan.seconds)
            spool[name] = await _spool_alone(directory / f"alone-{callers}-{count}", load)
            both[name] = await _spool_and_apply(url, directory / f"both-{callers}-{count}", load)
        return WriteRates(apply, spool, both, await asyncio.to_thread(fsync_ms, directory))
    finally:
        gauge.close()


async def _apply(url: str, gauge: ServerGauge, users: int, batch: int, plan: WritePlan) -> Rate:
    spool_id = f"bench-{users}-{batch}"
    source = made_events(users, spool_id)
    mark = SpoolMark(spool_id, None, 0)
    async with _opened(url) as store:

        async def step() -> int:
            nonlocal mark
            events = list(islice(source, batch))
            mark = replace(mark, before=mark.after or None, after=mark.after + batch)
            _expect(sum(outcome.fresh for outcome in await store.apply(events, mark)), batch)
            return batch

        return await measure_rate(step, gauge, callers=1, seconds=plan.seconds)


@dataclass(frozen=True, slots=True)
class _Load:
    """``callers`` at once, each with ``count`` events after the other."""

    gauge: ServerGauge
    callers: int
    count: int
    seconds: float

    async def rate(self, step: Step) -> Rate:
        return await measure_rate(step, self.gauge, callers=self.callers, seconds=self.seconds)


async def _spool_alone(directory: Path, load: _Load) -> Rate:
    source = made_events(USERS, directory.name)
    spool = await Spool.open(directory)

    async def step() -> int:
        await spool.append([encode_event(event) for event in islice(source, load.count)])
        return load.count

    try:
        return await load.rate(step)
    finally:
        await spool.close()


async def _spool_and_apply(url: str, directory: Path, load: _Load) -> Rate:
    source = made_events(USERS, directory.name)
    spool = await Spool.open(directory)
    try:
        async with _opened(url) as store:
            applier = EventApplier(spool, store, _Deaf())
            running = asyncio.get_running_loop().create_task(applier.run())
            try:
                return await load.rate(_submitting(applier, lambda: list(islice(source, load.count))))
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
    finally:
        await spool.close()


def _submitting(applier: EventApplier, source_of: Callable[[], list[Event]]) -> Step:
    """A step that waits until its events are durable and applied."""

    async def step() -> int:
        events = source_of()
        outcomes = await applier.submit(events, _TIMEOUT_S)
        _expect(sum(outcome.fresh for outcome in outcomes or ()), len(events))
        return len(events)

    return step


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[RedisEvents]:
    store = RedisEvents(open_scripts(url, _TIMEOUT_S), KeySpace(), VIEWS)
    try:
        yield store
    finally:
        await store.close()


class _Deaf:
    """An observer of nothing."""

    def batch_applied(self, events: Sequence[Event], fresh: Sequence[bool]) -> None:
        """Nothing is told."""

    def replay_began(self) -> None:
        """Nothing is told."""

    def try_failed(self, reason: str) -> None:
        """Nothing is told."""

    def events_lost(self, count: int) -> None:
        """Nothing is told."""

    def record_rejected(self) -> None:
        """Nothing is told."""


def fsync_ms(directory: Path) -> Spread:
    """What it takes to append 4 KiB to a file here and have it on disk."""
    times = []
    path = directory / "fsync"
    with path.open("wb") as file:
        for _ in range(_FSYNCS):
            started = time.perf_counter()
            file.write(_PAGE)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - started) * 1e3)
    path.unlink()
    return Spread.of(times)


def _expect(fresh: int, events: int) -> None:
    if fresh != events:
        raise BenchmarkError(f"{fresh} of {events} new events were applied")


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def _callers(count: int) -> str:
    return "1 caller" if count == 1 else f"{count:,} callers"
