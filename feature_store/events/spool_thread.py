"""A thread for calls that a sick disk may never let return: it is never waited for, not even when the process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")
_Call = tuple[Callable[[], Any], Future[Any]]


class SpoolThread:
    """Runs calls one after the other. The pools of the standard library are joined at the process's end; this is not."""

    def __init__(self, name: str = "spool") -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        Thread(target=_run, args=(self._calls,), name=name, daemon=True).start()

    def submit(self, call: Callable[[], ResultT]) -> Future[ResultT]:
        """Run the call behind those that wait."""
        future: Future[ResultT] = Future()
        self._calls.put((call, future))
        return future

    def run(self, call: Callable[[], ResultT]) -> asyncio.Future[ResultT]:
        """The same, for the running event loop; cancelling it drops the call if it has not begun."""
        return asyncio.wrap_future(self.submit(call))

    def end(self) -> None:
        """Let the thread end behind the calls that wait; no call may follow."""
        self._calls.put(None)


async def on_own_thread(call: Callable[[], ResultT]) -> ResultT:
    """Run one call on a thread of its own."""
    thread = SpoolThread()
    try:
        return await thread.run(call)
    finally:
        thread.end()


def _run(calls: SimpleQueue[_Call | None]) -> None:
    while (item := calls.get()) is not None:
        call, future = item
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        del item, call, future  # hold nothing while waiting for the next
