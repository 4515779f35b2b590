"""Group commit: appends that wait while others are being synced go together with the next sync."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feature_store.errors import SpoolFailedError, SpoolFullError
from feature_store.events.spool_files import SpoolFiles, SpoolRule
from feature_store.events.spool_segment import RECORD_HEAD_BYTES
from feature_store.events.spool_thread import SpoolThread

_RETRY_AFTER_S = 1.0
_GROUP_BYTES = 4 * 1024 * 1024
_STUCK = "the disk does not answer"


@dataclass(frozen=True, slots=True)
class _Append:
    records: tuple[bytes, ...]
    size_bytes: int
    durable: asyncio.Future[int]


class GroupCommits:
    """The write side of one spool; ``told`` is called after each sync."""

    def __init__(self, files: SpoolFiles, thread: SpoolThread, rule: SpoolRule, told: Callable[[], None]) -> None:
        self._files = files
        self._thread = thread
        self._rule = rule
        self._told = told
        self._admitted_bytes = files.written_bytes  # as its namesake counts, with what waits to be written
        self._waiting: deque[_Append] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._writing_since: float | None = None

    async def append(self, records: tuple[bytes, ...]) -> int:
        """See ``Spool.append``."""
        size_bytes = sum(RECORD_HEAD_BYTES + len(record) for record in records)
        if self._writing_since is not None and time.monotonic() - self._writing_since > self._rule.append_timeout_s:
            raise SpoolFailedError(_STUCK)
        if self._admitted_bytes - self._files.applied_bytes + size_bytes > self._rule.capacity_bytes:
            raise SpoolFullError("the spool is full of events that wait for the store", retry_after_s=_RETRY_AFTER_S)
        append = _Append(records, size_bytes, asyncio.get_running_loop().create_future())
        self._admitted_bytes += size_bytes
        self._waiting.append(append)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        try:
            async with asyncio.timeout(self._rule.append_timeout_s):
                return await append.durable
        except TimeoutError:
            if append in self._waiting:  # the caller was told that nothing is kept for certain: spare the disk
                self._waiting.remove(append)
                self._admitted_bytes -= size_bytes
            raise SpoolFailedError(_STUCK) from None

    async def finish(self) -> None:
        """Wait for the appends under way."""
        if self._committing is not None:
            await asyncio.wait([self._committing])

    def abandon(self) -> None:
        """Fail what is still under way: nobody will hear of it any more."""
        if self._committing is not None:
            self._committing.cancel()

    async def _commit(self) -> None:
        while self._waiting:
            group = self._next_group()
            records = [record for append in group for record in append.records]
            self._writing_since = time.monotonic()
            try:
                last = await self._thread.run(lambda: self._files.append(records))  # noqa: B023 - awaited here
            except asyncio.CancelledError:
                self._fail([*group, *self._waiting], SpoolFailedError("the spool is closed"))
                raise
            except Exception as error:  # whatever it was, the callers must hear of it
                self._fail(group, error)
            else:
                self._acknowledge(group, last)
            finally:
                self._writing_since = None
        self._committing = None

    def _next_group(self) -> list[_Append]:
        group = [self._waiting.popleft()]
        size_bytes = group[0].size_bytes
        while self._waiting and size_bytes + self._waiting[0].size_bytes <= _GROUP_BYTES:
            group.append(self._waiting.popleft())
            size_bytes += group[-1].size_bytes
        return group

    def _acknowledge(self, group: Sequence[_Append], last: int) -> None:
        for append in reversed(group):
            if not append.durable.done():
                append.durable.set_result(last)
            last -= len(append.records)
        self._told()

    def _fail(self, group: Sequence[_Append], error: Exception) -> None:
        for append in group:
            self._admitted_bytes -= append.size_bytes
            if not append.durable.done():
                failure = SpoolFailedError(str(error) or type(error).__name__)
                failure.__cause__ = error
                append.durable.set_exception(failure)
