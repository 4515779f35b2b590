"""The spool: an fsynced write-ahead log of acknowledged events on the local disk.

What ``append`` has returned for is on disk and outlives the process, the store and a loss of power. Appends that wait while
others are being synced go together with the next sync, so that many callers cost few syncs and none waits for a timer.
The files are touched on one thread of the spool's own, reads in small pieces between writes; the event loop never blocks, and
no append, no closing and no process's end waits for a disk that has stopped answering.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from feature_store.errors import SpoolFailedError
from feature_store.events.spool_commits import GroupCommits
from feature_store.events.spool_files import SpoolFiles, SpoolRule
from feature_store.events.spool_segment import MAX_RECORD_BYTES
from feature_store.events.spool_thread import SpoolThread

__all__ = ["Spool", "SpoolRule"]

ResultT = TypeVar("ResultT")

_DEFAULT_RULE = SpoolRule()
_log = logging.getLogger("rankline.spool")


class Spool:
    """One directory of records with sequence numbers 1, 2, ...; for one event loop. Made by ``open``.

    Numbers are never given twice to records that were acknowledged. An append that failed, or whose caller has gone, may
    have become durable all the same: records must be safe to apply twice.
    """

    def __init__(self, files: SpoolFiles, thread: SpoolThread, rule: SpoolRule, directory: Path) -> None:
        self.directory = directory
        self._files = files
        self._thread = thread
        self._rule = rule
        self._commits = GroupCommits(files, thread, rule, self._tell_waiters)
        self._waiters: set[tuple[int, asyncio.Future[None]]] = set()
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        directory: Path,
        rule: SpoolRule = _DEFAULT_RULE,
        *,
        store: str = "",
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Spool:
        """Lock the directory, made if it is not there, and recover what it holds; a torn end is cut off.

        Args:
            store: the ``store_fingerprint`` of the store that the records are for; empty: nobody asks.

        Raises:
            SpoolLockedError: another process uses it.
            SpoolForeignError: it holds the records of another store.
            SpoolFailedError: the disk refuses.
        """
        thread = SpoolThread()
        files = SpoolFiles(directory, rule, wall_clock=wall_clock, monotonic=monotonic, store=store)
        try:
            await thread.run(files.open)
        except BaseException:  # a cancelled wait included: the lock may be taken only after it
            thread.submit(files.close)
            thread.end()
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
    def is_gone(self) -> bool:
        """Whether somebody was found to have deleted the directory: no append succeeds any more."""
        return self._files.is_gone

    @property
    def corrupt_records(self) -> int:
        """Records that the opening found damaged or missing."""
        return self._files.corrupt_records

    async def append(self, records: Sequence[bytes]) -> int:
        """Make the records durable, in order and next to each other; the sequence number of the last.

        Raises:
            ValueError: a record is longer than 1 MiB.
            SpoolFullError: there is no room for all of them; none was taken.
            SpoolFailedError: they could not be written, not within ``append_timeout_s``, or the spool is closed. After a
                failed write later appends start on a new file; while one does not end, they are refused at once.
        """
        taken = tuple(records)
        if any(len(record) > MAX_RECORD_BYTES for record in taken):
            raise ValueError(f"a record is longer than {MAX_RECORD_BYTES} bytes")
        self._refuse_closed()
        if not taken:
            return self.durable
        return await self._commits.append(taken)

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

    async def tidy(self) -> None:
        """Delete applied records whose time is over, the newest too; to be called now and then.

        Raises:
            SpoolFailedError: the spool is closed.
        """
        await self._on_thread(self._files.tidy)

    async def reject(self, sequence: int, payload: bytes, reason: str) -> None:
        """Put a record aside that nobody can use, into the file ``rejected``, as far as there is room.

        Raises:
            SpoolFailedError: the spool is closed.
        """
        await self._on_thread(lambda: self._files.reject(sequence, payload, reason))

    async def close(self) -> None:
        """Finish the appends under way, refuse further calls and let go of the directory. Safe to repeat.

        Waits no longer than ``close_timeout_s``; of a disk that does not answer then, the thread is left behind.
        """
        await self._close_once(self._files.close)

    async def remove(self) -> None:
        """Close, and delete the directory if it holds no record, nor anything else worth keeping."""
        await self._close_once(self._files.remove)

    async def _close_once(self, last_call: Callable[[], None]) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(last_call))
        await asyncio.shield(self._closing)

    async def _close(self, last_call: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(self._rule.close_timeout_s):
                await self._commits.finish()
        except TimeoutError:
            self._commits.abandon()
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(SpoolFailedError("the spool is closed"))
        closed = self._thread.run(last_call)
        self._thread.end()
        try:
            async with asyncio.timeout(self._rule.close_timeout_s):
                await asyncio.shield(closed)
        except TimeoutError:
            _log.error("spool not closed: the disk does not answer", extra={"spool": self.directory.name})

    def _tell_waiters(self) -> None:
        for after, waiter in self._waiters:
            if after < self.durable and not waiter.done():
                waiter.set_result(None)

    async def _on_thread(self, call: Callable[[], ResultT]) -> ResultT:
        """Run the call behind the write under way; it runs to its end though its caller goes."""
        self._refuse_closed()
        return await asyncio.shield(self._thread.run(call))

    def _refuse_closed(self) -> None:
        if self._closing is not None:
            raise SpoolFailedError("the spool is closed")
