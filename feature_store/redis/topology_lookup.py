"""Asking where the servers are: one question at a time, whoever wants to know, and never on behalf of a caller that left."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

AnswerT = TypeVar("AnswerT")


class Lookup(Generic[AnswerT]):
    """Shares one call among all that wait for its answer; for one event loop."""

    def __init__(self, call: Callable[[], Awaitable[AnswerT]], *, pause_s: float) -> None:
        """``pause_s`` is the least time between the starts of two calls that nobody waits for."""
        self._call = call
        self._pause_s = pause_s
        self._started_at = -math.inf
        self._asking: asyncio.Task[AnswerT] | None = None
        self.last: AnswerT | None = None
        """The last answer; None before the first."""

    async def find(self) -> AnswerT:
        """A fresh answer, or that of the call under way; raises what the call raises."""
        return await asyncio.shield(self._ask())

    def look_again(self) -> None:
        """Ask in the background, unless that was done within the pause."""
        if time.monotonic() - self._started_at >= self._pause_s:
            self._ask()

    async def close(self) -> None:
        """End a call under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _ask(self) -> asyncio.Task[AnswerT]:
        if self._asking is None or self._asking.done():
            self._started_at = time.monotonic()
            self._asking = asyncio.get_running_loop().create_task(self._answer())
            self._asking.add_done_callback(_heard)
        return self._asking

    async def _answer(self) -> AnswerT:
        self.last = await self._call()
        return self.last


def _heard(asking: asyncio.Task[AnswerT]) -> None:
    if not asking.cancelled():
        asking.exception()  # nobody may be waiting any more; an unretrieved exception would be logged as lost
