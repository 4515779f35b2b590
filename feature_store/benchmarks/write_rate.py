"""A rate of events: by the clock, and by the CPU that the server and its client spent on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from feature_store.benchmarks.timing import Spread
from feature_store.redis.plain_hashes import ServerGauge

Step = Callable[[], Awaitable[int]]
"""Applies some events; how many."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``events`` in ``seconds``; CPU microseconds an event of this process and of the store; milliseconds of a step."""

    events: int
    seconds: float
    process_us: float
    store_us: float
    step_ms: Spread

    @property
    def per_s(self) -> float:
        """Events a second by the clock."""
        return self.events / self.seconds

    @property
    def per_core_s(self) -> float:
        """Events for a second of CPU, whoever spent it."""
        return 1e6 / (self.process_us + self.store_us)


async def measure_rate(step: Step, gauge: ServerGauge, *, callers: int, seconds: float) -> Rate:
    """Let so many callers take step after step for so long; the last ones are waited for, and count."""
    await step()
    times_ms: list[float] = []
    before_cpu, before_store, started = time.process_time(), gauge.cpu_s(), time.perf_counter()

    async def call() -> int:
        done = 0
        while time.perf_counter() - started < seconds:
            began = time.perf_counter()
            done += await step()
            times_ms.append((time.perf_counter() - began) * 1e3)
        return done

    events = sum(await asyncio.gather(*(call() for _ in range(callers))))
    passed = time.perf_counter() - started
    process_s, store_s = time.process_time() - before_cpu, gauge.cpu_s() - before_store
    return Rate(events, passed, process_s / events * 1e6, store_s / events * 1e6, Spread.of(times_ms))
