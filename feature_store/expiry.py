"""Waits that end in time, all by one timer: a timer of its own for each would cost every request more than its deadline does.

Almost no wait lasts until its time is up, so the timer is set to the first deadline of all, is left alone when that wait ends
before, and looks at whoever waits then. What waits is known to its owner alone: nothing is kept here that would outlive it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from feature_store.errors import StoreUnavailableError

_EARLY_S = 0.001
"""How early the event loop's timers may fire: their clocks tick in milliseconds."""


class Wait(Protocol):
    """Something waited for until ``deadline``, by ``time.monotonic``; infinite: for ever."""

    answer: asyncio.Future[Any]
    deadline: float


class Expiry:
    """Ends every wait by ``StoreUnavailableError("timeout")`` once its time is up; for one event loop."""

    def __init__(self, waits: Callable[[], Iterable[Wait]]) -> None:
        """``waits`` gives all that may still wait, those that have ended meanwhile included."""
        self._waits = waits
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = math.inf

    def watch(self, deadline: float) -> None:
        """There is a wait that ends at this moment."""
        if deadline < self._fires_at:
            self.stop()
            self._fires_at = deadline
            self._timer = asyncio.get_running_loop().call_later(max(0.0, deadline - time.monotonic()), self._fire)

    def stop(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._fires_at = None, math.inf

    def _fire(self) -> None:
        self._timer, self._fires_at = None, math.inf
        due = time.monotonic() + _EARLY_S
        first = math.inf
        for wait in self._waits():
            if wait.answer.done():
                continue
            if wait.deadline <= due:
                wait.answer.set_exception(StoreUnavailableError("timeout", "the caller's time is up"))
            else:
                first = min(first, wait.deadline)
        self.watch(first)
