"""One time limit for all exchanges of a node, kept by one timer: a timer of its own would cost each more than its decoding."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

_EARLY_S = 0.001
"""How early the event loop's timers may fire: their clocks tick in milliseconds."""


class ExchangeLimits:
    """Cancels what is still under way ``limit_s`` after it began; for one event loop.

    Almost nothing takes so long, so the timer is left alone when the exchange that it was set for ends, and looks at what is
    under way when it fires.
    """

    def __init__(self, limit_s: float | None) -> None:
        """``limit_s`` None: no limit."""
        self._limit_s = limit_s
        self._under_way: dict[TimeLimit, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> TimeLimit:
        """A context that ends by ``TimeoutError`` if it takes too long; of the task that enters it."""
        return TimeLimit(self)

    def stop(self) -> None:
        """Limit nothing any more."""
        self._under_way.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _add(self, limit: TimeLimit) -> None:
        if self._limit_s is None:
            return
        limit.due = time.monotonic() + self._limit_s
        self._under_way[limit] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = time.monotonic()
        for limit in list(self._under_way):  # in the order of their ends, as each has as long
            if limit.due > now + _EARLY_S:
                self._timer = asyncio.get_running_loop().call_later(limit.due - now, self._fire)
                return
            del self._under_way[limit]
            limit.expire()


class TimeLimit:
    """One exchange's limit. As ``asyncio.timeout``, it tells its own cancellation from another's."""

    __slots__ = ("_cancelling", "_expired", "_limits", "_task", "due")

    def __init__(self, limits: ExchangeLimits) -> None:
        self._limits = limits
        self._expired = False
        self.due = 0.0

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._limits._add(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._limits._under_way.pop(self, None)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError("the exchange took too long") from error

    def expire(self) -> None:
        """The time is up."""
        self._expired = True
        self._task.cancel()
