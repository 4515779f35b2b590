"""Load made by one process over kept connections: closed loop for capacity, Poisson arrivals for latency and overload.

``python -m loadtest.bench.traffic`` reads a ``TrafficPlan`` as JSON from standard input and writes a ``Traffic`` to standard
output, so that the generator is a process of its own, on a core of its own, whose own processor time is told with the figures.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import uvloop

from loadtest.bench.bodies import Bodies, bodies_of

_OK = b"HTTP/1.1 200"
_WHOLE = (b'"degraded":null', b'"degraded": null')


WARMUP_S = 1.5
"""A process that was idle takes about a second to be as fast as it gets."""


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """What to send. ``rate_per_s`` None: closed loop, every connection asks again as soon as it is answered.

    With a rate, arrivals are Poisson; one that finds all connections busy waits for the first that is free, and its latency
    counts from when it was due. Answers count from ``warmup_s`` on; ``within_ms`` is what an answer must keep to be good.
    """

    port: int
    bodies: Bodies
    connections: int
    seconds: float
    warmup_s: float = WARMUP_S
    rate_per_s: float | None = None
    within_ms: float = 50.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Traffic:
    """What came back in ``seconds``.

    Latencies are in milliseconds, of answers with status 200; ``whole`` ones are not degraded, ``good`` ones came in time,
    too. ``unsent`` were due and found no connection before the end. ``generator_busy`` is the share of a core.
    """

    seconds: float
    answers: int
    whole: int
    good: int
    refused: int
    failed: int
    unsent: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    generator_busy: float

    @property
    def answers_per_s(self) -> float:
        """Answers with status 200 a second."""
        return self.answers / self.seconds

    @property
    def good_per_s(self) -> float:
        """Answers a second that were whole and in time."""
        return self.good / self.seconds


class _Load:
    """Counts, and who waits for a connection."""

    def __init__(self, plan: TrafficPlan) -> None:
        self.plan = plan
        self.requests = plan.bodies.requests()
        self.draws: list[int] = np.random.default_rng(plan.seed).integers(0, len(self.requests), 1 << 16).tolist()
        self.sent = 0
        self.counting = False
        self.stopped = False
        self.latencies: list[float] = []
        self.whole = self.good = self.refused = self.failed = 0
        self.idle: deque[_Connection] = deque()
        self.due: deque[float] = deque()

    def next_request(self) -> bytes:
        self.sent += 1
        return self.requests[self.draws[self.sent & 0xFFFF]]

    def answered(self, connection: _Connection, due: float, answer: bytes) -> None:
        now = time.perf_counter()
        if self.counting:
            self._count((now - due) * 1e3, answer)
        if self.stopped:
            return
        if self.plan.rate_per_s is None:
            connection.ask(time.perf_counter())
        elif self.due:
            connection.ask(self.due.popleft())
        else:
            self.idle.append(connection)

    def _count(self, milliseconds: float, answer: bytes) -> None:
        if answer.startswith(_OK):
            self.latencies.append(milliseconds)
            if any(mark in answer for mark in _WHOLE):
                self.whole += 1
                self.good += milliseconds <= self.plan.within_ms
        elif answer.startswith(b"HTTP/1.1 429"):
            self.refused += 1
        else:
            self.failed += 1

    def arrive(self, due: float) -> None:
        if self.idle:
            self.idle.popleft().ask(due)
        else:
            self.due.append(due)


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._buffer = b""
        self._length = 0
        self._due = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, due: float) -> None:
        self._due = due
        self._transport.write(self._load.next_request())

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._length:
            self._length = _whole_length(self._buffer)
        if self._length and len(self._buffer) >= self._length:
            answer, self._buffer, self._length = self._buffer, b"", 0
            self._load.answered(self, self._due, answer)

    def connection_lost(self, _: Exception | None) -> None:
        if not self._load.stopped:
            self._load.failed += 1


def _whole_length(data: bytes) -> int:
    """Bytes of the answer with its body, 0 while that cannot be told yet."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = data[:end].lower()
    start = head.find(b"content-length:")
    if start < 0:  # in chunks: whole at the last one
        return len(data) if data.endswith(b"\r\n0\r\n\r\n") else 0
    start += len(b"content-length:")
    stop = head.find(b"\r\n", start)
    return end + 4 + int(head[start : stop if stop >= 0 else None])


async def _run(plan: TrafficPlan) -> Traffic:
    load = _Load(plan)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: _Connection(load), "127.0.0.1", plan.port))[1] for _ in range(plan.connections)
    ]
    if plan.rate_per_s is None:
        for connection in connections:
            connection.ask(time.perf_counter())
    else:
        load.idle.extend(connections)
        _Arrivals(load, plan.rate_per_s, loop).start()
    await asyncio.sleep(plan.warmup_s)
    load.counting, started, busy = True, time.perf_counter(), time.process_time()
    await asyncio.sleep(plan.seconds)
    load.counting, load.stopped = False, True
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return _result(load, seconds, busy)


class _Arrivals(threading.Thread):
    """Poisson arrivals, each told to the event loop when it is due and never before.

    A thread that sleeps keeps time to some 60 microseconds; the timers of the loop keep it to a millisecond, which would make
    clumps of the arrivals of a millisecond.
    """

    def __init__(self, load: _Load, rate_per_s: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(daemon=True)
        self._load = load
        self._rate_per_s = rate_per_s
        self._loop = loop

    def run(self) -> None:
        gaps = np.random.default_rng(self._load.plan.seed + 1)
        due = time.perf_counter()
        while not self._load.stopped:
            for gap in gaps.exponential(1 / self._rate_per_s, 1_024).tolist():
                due += gap
                wait = due - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                if self._load.stopped:
                    return
                self._loop.call_soon_threadsafe(self._load.arrive, due)


def _result(load: _Load, seconds: float, busy: float) -> Traffic:
    # A run without answers has no latency; -1 says so and JSON can carry it.
    quantiles = np.quantile(load.latencies, (0.5, 0.9, 0.99, 0.999)) if load.latencies else np.full(4, -1.0)
    p50, p90, p99, p999 = quantiles.tolist()
    counts = (len(load.latencies), load.whole, load.good, load.refused, load.failed, len(load.due))
    return Traffic(seconds, *counts, p50, p90, p99, p999, busy / seconds)


def main() -> None:
    """Read the plan, make the load, write the result."""
    given = json.load(sys.stdin)
    plan = TrafficPlan(**{**given, "bodies": bodies_of(given["bodies"])})
    json.dump(asdict(uvloop.run(_run(plan))), sys.stdout)


if __name__ == "__main__":
    main()
