"""Where a request's time went. One clock feeds the answer's ``timings_ms``, the metrics and the load test."""

from __future__ import annotations

import time

STAGES = ("parse", "assign", "fetch", "encode", "queue", "score", "respond")


class StageClock:
    """Durations by stage, in milliseconds; ``lap`` ends the running stage and starts the next."""

    __slots__ = ("_last", "started", "timings_ms")

    def __init__(self, started: float | None = None) -> None:
        self._last = self.started = time.monotonic() if started is None else started
        self.timings_ms: dict[str, float] = {}

    def lap(self, stage: str, elsewhere_ms: float = 0.0) -> None:
        """Book the time since the last lap under ``stage``, but for ``elsewhere_ms`` of it, which another stage is booked for.

        Below zero: that much of an earlier lap belongs here.
        """
        now = time.monotonic()
        lasted_ms = (now - self._last) * 1e3 - elsewhere_ms
        self.timings_ms[stage] = lasted_ms if lasted_ms > 0.0 else 0.0
        self._last = now

    def book(self, stage: str, milliseconds: float) -> None:
        """Set a stage's duration: of a lap that is parted between two stages."""
        self.timings_ms[stage] = milliseconds

    @property
    def total_ms(self) -> float:
        """Time since the start."""
        return (time.monotonic() - self.started) * 1e3
