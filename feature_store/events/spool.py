"""The spool: an fsynced write-ahead log of acknowledged events on the local disk.

What ``append`` has returned for is on disk and outlives the process, the store and a loss of power. Appends that wait while
others are being synced go together with the next sync, so that many callers cost few syncs and none waits for a timer.
The files are touched on one thread of the spool's own, reads in small pieces between writes; the event loop never blocks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from feature_store.errors import SpoolFailedError, SpoolFullError
from feature_store.events.spool_files import SpoolFiles, SpoolRule
from feature_store.events.spool_segment import MAX_RECORD_BYTES, RECORD_HEAD_BYTES

__all__ = ["Spool", "SpoolRule"]

ResultT = TypeVar("ResultT")

_DEFAULT_RULE = SpoolRule()
_RETRY_AFTER_S = 1.0
_GROUP_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Append:
    records: tuple[bytes, ...]
    size_bytes: int
    durable: asyncio.Future[int]


class Spool:
    """One directory of records with sequence numbers 1, 2, ...; for one event loop. Made by ``open``.

    Numbers are never given twice to records that were acknowledged. An append that failed, or whose caller has gone, may
    have become durable all the same: records must be safe to apply twice.
    """

    def __init__(self, files: SpoolFiles, thread: ThreadPoolExecutor, rule: SpoolRule, directory: Path) -> None:
        self.directory = directory
        self._files = files
        self._thread = thread
        self._rule = rule
        self._admitted_bytes = files.written_bytes  # as its namesake counts, with what waits to be written
        self._waiting: deque[_Append] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._waiters: set[tuple[int, asyncio.Future[None]]] = set()
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, directory: Path, rule: SpoolRule = _DEFAULT_RULE, *, wall_clock: Callable[[], float] = time.time
    ) -> Spool:
        """Lock the directory, made if it is not there, and recover what it holds; a torn end is cut off.

        Raises:
            SpoolLockedError: another process uses it.
            SpoolFailedError: the disk refuses.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        files = SpoolFiles(directory, rule, wall_clock)
        try:
            await asyncio.get_running_loop().run_in_executor(thread, files.open)
        except BaseException:  # a cancelled wait included: the lock may be taken only after it
            thread.submit(files.close)
            thread.shutdown(wait=False)
            raise
        return cls(files, thread, rule, directory)

    @property
    def spool_id(self) -> str:
        """32 random hex digits, the same for this directory at every opening."""
        return self._files.spool_id

    @property
    def durable(self) -> int:
        """Sequence number of the last durable record; 0 when there never was one."""
        return self._files.durable

    @property
    def applied(self) -> int:
        """The last sequence number known to be applied, as is everything below it."""
        return self._files.applied

    @property
    def pending(self) -> int:
        """Durable records not known to be applied."""
        return max(0, self._files.durable - self._files.applied)

    @property
    def pending_bytes(self) -> int:
        """Their bytes on disk."""
        return max(0, self._files.written_bytes - self._files.applied_bytes)

    @property
    def oldest(self) -> int:
        """The lowest sequence number that can still be read; ``durable + 1`` when there is none."""
        return self._files.oldest

    @property
    def corrupt_records(self) -> int:
        """Records that the opening found damaged or missing."""
        return self._files.corrupt_records

    async def append(self, records: Sequence[bytes]) -> int:
        """Make the records durable, in order and next to each other; the sequence number of the last.

        Raises:
            ValueError: a record is longer than 1 MiB.
            SpoolFullError: there is no room for all of them; none was taken.
            SpoolFailedError: they could not be written, or the spool is closed. Later appends start on a new file.
        """
        taken = tuple(records)
        if any(len(record) > MAX_RECORD_BYTES for record in taken):
            raise ValueError(f"a record is longer than {MAX_RECORD_BYTES} bytes")
        self._refuse_closed()
        if not taken:
            return self.durable
        size_bytes = sum(RECORD_HEAD_BYTES + len(record) for record in taken)
        if self._admitted_bytes - self._files.applied_bytes + size_bytes > self._rule.capacity_bytes:
            raise SpoolFullError("the spool is full of events that wait for the store", retry_after_s=_RETRY_AFTER_S)
        append = _Append(taken, size_bytes, asyncio.get_running_loop().create_future())
        self._admitted_bytes += size_bytes
        self._waiting.append(append)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await append.durable

    async def read(self, after: int, max_records: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Records above ``after`` with their numbers, in order, from the oldest one kept if ``after`` is older; [] when none.

        ``max_bytes`` is of payloads; a first record longer than that comes alone. Numbers that are missing in between were
        lost to damage, which the log tells.

        Raises:
            SpoolFailedError: the disk refuses, everything above ``after`` is damaged, or the spool is closed.
        """
        found: list[tuple[int, bytes]] = []
        while len(found) < max_records and max_bytes > 0 and after < self.durable:
            try:
                piece = await self._on_thread(
                    lambda: self._files.read(after, max_records - len(found), max_bytes, at_least_one=not found)  # noqa: B023
                )
            except SpoolFailedError:
                if not found:
                    raise
                break
            if not piece:
                break
            found += piece
            after = piece[-1][0]
            max_bytes -= sum(len(payload) for _, payload in piece)
        return found

    async def wait(self, after: int) -> None:
        """Return once a record above ``after`` is durable, at once if one is.

        Raises:
            SpoolFailedError: the spool is closed, or was while waiting.
        """
        self._refuse_closed()
        if self.durable > after:
            return
        waiter = (after, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        try:
            await waiter[1]
        finally:
            self._waiters.discard(waiter)

    async def mark_applied(self, sequence: int) -> None:
        """Note that everything up to ``sequence`` is applied; a lower number than before changes nothing.

        The note is not synced: after a crash some records may be pending again. Files that the rule no longer keeps go.

        Raises:
            ValueError: there is no such record yet.
            SpoolFailedError: the spool is closed.
        """
        if sequence > self.durable:
            raise ValueError(f"{sequence} is applied but only {self.durable} is durable")
        if sequence > self.applied:
            await self._on_thread(lambda: self._files.mark_applied(sequence))

    async def close(self) -> None:
        """Finish the appends under way, refuse further calls and let go of the directory. Safe to repeat."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._committing is not None:
            await asyncio.wait([self._committing])
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(SpoolFailedError("the spool is closed"))
        await asyncio.get_running_loop().run_in_executor(self._thread, self._files.close)
        self._thread.shutdown(wait=False)

    async def _commit(self) -> None:
        while self._waiting:
            group = self._next_group()
            try:
                last = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._files.append, [record for append in group for record in append.records]
                )
            except Exception as error:  # whatever it was, the callers must hear of it
                self._fail(group, error)
            else:
                self._acknowledge(group, last)
        self._committing = None

    def _next_group(self) -> list[_Append]:
        group = [self._waiting.popleft()]
        size_bytes = group[0].size_bytes
        while self._waiting and size_bytes + self._waiting[0].size_bytes <= _GROUP_BYTES:
            group.append(self._waiting.popleft())
            size_bytes += group[-1].size_bytes
        return group

    def _acknowledge(self, group: list[_Append], last: int) -> None:
        for append in reversed(group):
            if not append.durable.done():
                append.durable.set_result(last)
            last -= len(append.records)
        for after, waiter in self._waiters:
            if after < self.durable and not waiter.done():
                waiter.set_result(None)

    def _fail(self, group: list[_Append], error: Exception) -> None:
        for append in group:
            self._admitted_bytes -= append.size_bytes
            if not append.durable.done():
                failure = SpoolFailedError(str(error) or type(error).__name__)
                failure.__cause__ = error
                append.durable.set_exception(failure)

    async def _on_thread(self, call: Callable[[], ResultT]) -> ResultT:
        """Run the call behind the write under way; it runs to its end though its caller goes."""
        self._refuse_closed()
        running: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(self._thread, call)
        return await asyncio.shield(running)

    def _refuse_closed(self) -> None:
        if self._closing is not None:
            raise SpoolFailedError("the spool is closed")
