"""One timer for the earliest deadline of many: setting it mostly costs a comparison, for later requests are due later."""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections.abc import Callable


class DeadlineAlarm:
    """Rings once at the earliest moment it was set to; whoever is rung sets it anew for what is left.

    It is never turned back when a deadline falls away: it then rings for nobody, at most once a deadline.
    """

    __slots__ = ("_at", "_loop", "_ring", "_timer")

    def __init__(self, ring: Callable[[float], None]) -> None:
        """``ring``: a bound method, told the moment; its object is held weakly, so that a timer keeps nothing alive."""
        self._ring = weakref.WeakMethod(ring)
        self._at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def set(self, deadline: float) -> None:
        """Ring at ``deadline`` (a moment of ``time.monotonic``) at the latest."""
        loop = asyncio.get_running_loop()
        if deadline >= self._at and self._loop is loop:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at, self._loop = deadline, loop
        self._timer = loop.call_at(deadline, self._rang) if deadline < math.inf else None

    def _rang(self) -> None:
        # A timer may come a little early: what it was set for counts as reached.
        now = max(self._at, time.monotonic())
        self._at, self._timer = math.inf, None
        ring = self._ring()
        if ring is not None:
            ring(now)
