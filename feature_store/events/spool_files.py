"""The spool's directory: the index of its segments, and everything that touches them. Blocks; for one thread at a time."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from feature_store.errors import SpoolFailedError, SpoolForeignError
from feature_store.events.spool_reading import read_piece
from feature_store.events.spool_recovery import recover
from feature_store.events.spool_segment import Segment, SegmentWriter
from feature_store.events.spool_state import (
    AppliedMark,
    append_rejected,
    check_store,
    is_still,
    lock_directory,
    make_directory,
    read_next,
    read_or_make_id,
    remove_directory,
    write_next,
)

_log = logging.getLogger("rankline.spool")


@dataclass(frozen=True, slots=True)
class SpoolRule:
    """How much a spool holds, in bytes of records as they lie on disk (16 more than the payload each), and for how long.

    ``capacity_bytes`` bounds the records not yet applied. Applied ones stay for ``retain_s`` after they were applied, at
    most ``retained_bytes`` of them, and less when the disk is full. Files go whole; the newest goes by time only.

    An append takes at most ``append_timeout_s``; closing about twice ``close_timeout_s``. Of records that nobody can use
    ``rejected_bytes`` are kept aside.
    """

    capacity_bytes: int = 256 * 1024 * 1024
    segment_bytes: int = 8 * 1024 * 1024
    retain_s: float = 3600.0
    retained_bytes: int = 256 * 1024 * 1024
    append_timeout_s: float = 5.0
    close_timeout_s: float = 2.0
    rejected_bytes: int = 4 * 1024 * 1024


class SpoolFiles:
    """The files of one spool. Every method belongs to one thread. The numbers may be read from the event loop's meanwhile:
    each is whole, two that are read one after the other need not fit together."""

    def __init__(
        self,
        directory: Path,
        rule: SpoolRule,
        *,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        store: str = "",
    ) -> None:
        self.spool_id = ""
        self.is_gone = False  # somebody deleted the directory, or the lock in it: what is written is kept no longer
        self.durable = 0
        self.applied = 0
        self.corrupt_records = 0
        self.written_bytes = 0  # of records: those pending at the opening, and all written since
        self.applied_bytes = 0  # of those, the applied ones
        self._directory = directory
        self._rule = rule
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._store = store
        self._segments: list[Segment] = []
        self._writer: SegmentWriter | None = None
        self._mark: AppliedMark | None = None
        self._lock: int | None = None

    @property
    def oldest(self) -> int:
        """The lowest sequence number that can be read."""
        segments = self._segments[:1]  # in one step: the other thread may delete the last one between two looks
        return segments[0].first if segments else self.durable + 1

    def open(self) -> None:
        """Lock the directory, made if it is not there, and find out what it holds.

        Raises:
            SpoolFailedError: it is in use, of another store, or the disk refuses.
        """
        try:
            make_directory(self._directory)
            self._lock = lock_directory(self._directory)
            check_store(self._directory, self._store)
            self.spool_id = read_or_make_id(self._directory)
            self._mark = AppliedMark(self._directory)
            found = recover(self._directory, max(self._mark.read(), read_next(self._directory) - 1))
        except SpoolForeignError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise SpoolFailedError(f"the spool {self._directory.name} cannot be opened: {error.strerror}") from error
        passed = self._wall_clock() - self._monotonic()
        for segment in found.segments:  # a clock that was set back since must not keep them for ever
            segment.applied_at = min(segment.applied_at - passed, self._monotonic())
        self._segments, self.corrupt_records = found.segments, found.corrupt_records
        self.durable, self.applied = found.durable, found.applied
        self.written_bytes = self._pending_bytes()

    def append(self, payloads: Sequence[bytes]) -> int:
        """Write and sync the payloads; the sequence number of the last.

        Raises:
            SpoolFailedError: they are not durable. The next append starts a new file.
        """
        try:
            try:
                self._append(payloads)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._delete_applied():
                    raise
                self._append(payloads)
        except OSError as error:
            _log.error("spool not written", extra={"spool": self._directory.name, "reason": error.strerror})
            self._look_whether_gone()
            raise SpoolFailedError(f"the spool cannot be written: {error.strerror or error}") from error
        return self.durable

    def read(self, after: int, max_records: int, max_bytes: int, *, at_least_one: bool) -> list[tuple[int, bytes]]:
        """Records above ``after``; a short piece, perhaps fewer than asked for, [] when there are none or none may be taken.

        Raises:
            SpoolFailedError: there are such records and none can be read.
        """
        try:
            for segment in [segment for segment in self._segments if segment.last > after]:
                found, has_any = read_piece(segment, after, max_records, max_bytes, at_least_one=at_least_one)
                if has_any:
                    return found
                _log.error("spool records lost", extra={"spool": self._directory.name, "segment": segment.path.name})
        except OSError as error:
            raise SpoolFailedError(f"the spool cannot be read: {error.strerror}") from error
        if not self._segments or self._segments[-1].last <= after:
            return []
        self._leave_writer()  # what comes next must not lie behind the damage
        raise SpoolFailedError(f"the records after {after} cannot be read")

    def mark_applied(self, sequence: int) -> None:
        """Move the mark up to ``sequence``, and delete what the rule keeps no longer."""
        before, self.applied = self.applied, max(self.applied, sequence)
        for step in (self._count_applied, lambda: self._stamp_applied(before), self._write_mark, self._expire):
            try:
                step()
            except OSError as error:  # nothing is lost by it: some records may be applied again, some files stay longer
                _log.warning("spool not tidied", extra={"spool": self._directory.name, "reason": error.strerror})

    def tidy(self) -> None:
        """Delete applied files whose time is over, the newest too: the file ``next`` keeps the numbers then."""
        self._look_whether_gone()
        try:
            self._expire()
            newest = self._segments[-1:]
            if len(self._segments) == 1 and newest[0].last <= self.applied and self._is_over(newest[0]):
                write_next(self._directory, self.durable + 1)
                self._leave_writer()
                self._delete(newest[0])
        except OSError as error:
            _log.warning("spool not tidied", extra={"spool": self._directory.name, "reason": error.strerror})

    def reject(self, sequence: int, payload: bytes, reason: str) -> None:
        """Append the record as a line of JSON to the file ``rejected``, unless that is full or the disk refuses."""
        try:
            append_rejected(self._directory, sequence, payload, reason, limit_bytes=self._rule.rejected_bytes)
        except OSError as error:
            _log.warning("record not kept aside", extra={"spool": self._directory.name, "reason": error.strerror})

    def remove(self) -> None:
        """Delete the directory if there is nothing left in it but what every spool has, and close."""
        try:
            if not self._segments:
                remove_directory(self._directory)
        except OSError as error:
            _log.warning("spool folder not removed", extra={"spool": self._directory.name, "reason": error.strerror})
        finally:
            self.close()

    def close(self) -> None:
        """Close the files and let go of the directory; also after an ``open`` that failed."""
        self._leave_writer()
        mark, self._mark = self._mark, None
        if mark is not None:
            mark.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _append(self, payloads: Sequence[bytes]) -> None:
        if self._writer is not None and self._writer.segment.length >= self._rule.segment_bytes:
            self._leave_writer()
        if self._writer is None:
            self._writer = SegmentWriter(self._directory, self.durable + 1)
        writer = self._writer
        try:
            added = writer.append(payloads)
            if not is_still(writer.segment.path, writer.descriptor) or self._look_whether_gone():
                raise FileNotFoundError(errno.ENOENT, "the spool's files were deleted under it")
        except BaseException:
            writer.abandon()
            self._writer = None
            raise
        if not self._segments or self._segments[-1] is not writer.segment:
            self._segments.append(writer.segment)
        self.durable = writer.segment.last
        self.written_bytes += added

    def _look_whether_gone(self) -> bool:
        with suppress(OSError):
            self.is_gone = self._lock is not None and not is_still(self._directory / "lock", self._lock)
        return self.is_gone

    def _leave_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _pending_bytes(self) -> int:
        return sum(segment.bytes_after(self.applied) for segment in self._segments if segment.last > self.applied)

    def _count_applied(self) -> None:
        self.applied_bytes = self.written_bytes - self._pending_bytes()

    def _write_mark(self) -> None:
        if self._mark is not None:
            self._mark.write(self.applied)

    def _stamp_applied(self, before: int) -> None:
        """The time of being applied outlives a restart as the file's own time."""
        now = self._wall_clock()
        monotonic = self._monotonic()
        for segment in self._segments:
            if before < segment.last <= self.applied:
                segment.applied_at = monotonic
                with suppress(FileNotFoundError):
                    os.utime(segment.path, (now, now))

    def _expire(self) -> None:
        applied = [segment for segment in self._segments[:-1] if segment.last <= self.applied]
        kept_bytes = sum(segment.length for segment in applied)
        for segment in applied:
            if kept_bytes <= self._rule.retained_bytes and not self._is_over(segment):
                return
            self._delete(segment)
            kept_bytes -= segment.length

    def _is_over(self, segment: Segment) -> bool:
        return self._monotonic() - segment.applied_at >= self._rule.retain_s

    def _delete_applied(self) -> bool:
        """Make room on a full disk; False when there is nothing to delete."""
        applied = [segment for segment in self._segments[:-1] if segment.last <= self.applied]
        for segment in applied:
            self._delete(segment)
        return bool(applied)

    def _delete(self, segment: Segment) -> None:
        segment.path.unlink(missing_ok=True)
        self._segments.remove(segment)
