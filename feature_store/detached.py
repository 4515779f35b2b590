"""Calls that outlive their caller: a cancelled request never cancels the exchange it started.

A command cancelled between its sending and its reply leaves the reply in the connection, for the next caller to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from feature_store.errors import StoreUnavailableError

ResultT = TypeVar("ResultT")


class DetachedCalls:
    """Runs each call in a task of its own, at most ``limit`` at once; for one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def outstanding(self) -> int:
        """Calls under way, those whose caller has gone included."""
        return len(self._tasks)

    async def run(self, call: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Await ``call()``; cancelling this wait leaves the call running to its end.

        Raises:
            StoreUnavailableError: ``closed``, or ``pool_exhausted`` with ``limit`` calls under way.
        """
        if self._closed:
            raise StoreUnavailableError("closed")
        if len(self._tasks) >= self._limit:
            raise StoreUnavailableError("pool_exhausted", f"{self._limit} calls are under way")
        task = asyncio.get_running_loop().create_task(call())
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Refuse further calls and wait for those under way, whatever their outcome."""
        self._closed = True
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be waiting any more; an unretrieved exception would be logged as lost
