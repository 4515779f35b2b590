"""Requests that are due at a constant rate and never wait for answers; latency counts from the moment one was due."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.chaos.wire import Wire, WireBrokenError

_ANSWER_TIMEOUT_S = 10.0
_KEPT_IDLE_S = 30.0
"""Less than the service keeps idle connections (75 s): one that it closes as a request comes would look like a lost answer."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: due at ``due_s`` (monotonic), answered ``latency_ms`` later; status 0 without an answer."""

    due_s: float
    latency_ms: float
    status: int
    whole: bool


class OpenLoop:
    """Sends until told to stop. ``is_whole`` looks at the bytes of an answer with status 200."""

    def __init__(self, port: int, requests: Sequence[bytes], rate_per_s: float, is_whole: Callable[[bytes], bool]) -> None:
        self.arrivals: list[Arrival] = []
        self._port = port
        self._requests = requests
        self._period_s = 1.0 / rate_per_s
        self._is_whole = is_whole
        self._idle: list[tuple[float, Wire]] = []
        self._stopped = False

    async def run(self) -> None:
        """Send from now on; returns when ``stop`` was called and every answer is in."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            number = 0
            while not self._stopped:
                due_s = started + number * self._period_s
                await asyncio.sleep(due_s - time.monotonic())
                group.create_task(self._arrival(due_s, self._requests[number % len(self._requests)]))
                number += 1
        for _, wire in self._idle:
            wire.leave()

    def stop(self) -> None:
        """No new requests."""
        self._stopped = True

    def _wire(self) -> Wire:
        """The connection used last, if that was not too long ago, as any HTTP client would take it; else a new one."""
        while self._idle:
            since, wire = self._idle.pop()
            if time.monotonic() - since < _KEPT_IDLE_S:
                return wire
            wire.leave()
        return Wire(self._port)

    async def _arrival(self, due_s: float, request: bytes) -> None:
        wire = self._wire()
        status, whole = 0, False
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                reply = await wire.exchange(request)
            status, whole = reply.status, reply.status == 200 and self._is_whole(reply.body)
            self._idle.append((time.monotonic(), wire))
        except (WireBrokenError, TimeoutError):
            wire.leave()
        self.arrivals.append(Arrival(due_s, (time.monotonic() - due_s) * 1e3, status, whole))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed; NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan
