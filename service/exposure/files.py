"""The files of one process: one at a time, begun under a name that says so, renamed when it is whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from service.exposure.rule import ExposureRule

OPEN_SUFFIX = ".jsonl.open"
WHOLE_SUFFIX = ".jsonl"
PREFIX = "exposures-"


class ExposureFiles:
    """Appends lines; for one thread. Every call may raise ``OSError``; the next one starts on a new file.

    Names are ``exposures-<start of the process, UTC>-<process id>-<number>.jsonl``, with ``.open`` behind while it is written.
    The lock on an open file tells others that its process lives.
    """

    def __init__(self, rule: ExposureRule, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rule = rule
        self._monotonic = monotonic
        # To the microsecond: a process in a container has the same id every time, and may start again at once.
        self._stem = f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{os.getpid()}"
        self._number = 0
        self._descriptor: int | None = None
        self._path = Path()
        self._size = 0
        self._opened = self._synced = 0.0
        self._is_dirty = False

    def append(self, lines: bytes) -> int:
        """Write whole lines; how many bytes of them stay, which is some number of whole lines.

        Less than all stay when the disk refused the rest; then the file has ended.

        Raises:
            OSError: none could be written.
        """
        descriptor = self._file_for(len(lines))
        written = 0
        try:
            while written < len(lines):
                written += os.write(descriptor, memoryview(lines)[written:])
        except OSError:
            kept = lines.rfind(b"\n", 0, written) + 1
            self._end_after(kept, written)
            if not kept:
                raise
            return kept
        self._size += written
        self._is_dirty = True
        return written

    def look(self) -> None:
        """End a file that is old enough, sync what is due; to be called now and then."""
        now = self._monotonic()
        if self._descriptor is None:
            return
        if now - self._opened >= self._rule.rotate_s:
            self.finish()
        elif self._is_dirty and self._rule.fsync == "interval" and now - self._synced >= self._rule.fsync_s:
            self._sync(self._descriptor)
            self._synced = now

    def finish(self) -> None:
        """End the file, if one is open: synced if the rule says so, under its last name. An empty one goes."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            if self._is_dirty and self._rule.fsync != "none":
                self._sync(descriptor)
            end_file(self._path, self._size)
            if self._rule.fsync != "none":
                _sync_directory(self._rule.directory)
        finally:
            os.close(descriptor)  # also lets the lock go

    def _file_for(self, size: int) -> int:
        if self._descriptor is not None:
            if os.fstat(self._descriptor).st_nlink == 0:  # somebody deleted it: what is written there is lost
                self._abandon()
            elif self._size and self._size + size > self._rule.rotate_bytes:
                self.finish()
        if self._descriptor is None:
            self._open()
        descriptor = self._descriptor
        assert descriptor is not None
        self._require_space(descriptor)
        return descriptor

    def _open(self) -> None:
        self._rule.directory.mkdir(parents=True, exist_ok=True)
        self._number += 1
        path = self._rule.directory / f"{self._stem}-{self._number:06d}{OPEN_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:
                raise OSError(errno.EAGAIN, "taken for a dead process's file before it was locked")
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._path, self._size, self._is_dirty = descriptor, path, 0, False
        self._opened = self._synced = self._monotonic()

    def _require_space(self, descriptor: int) -> None:
        """The spool of live events and the store may be on this disk, too, and matter more."""
        disk = os.fstatvfs(descriptor)
        if disk.f_bavail * disk.f_frsize < self._rule.keep_free_bytes:
            raise OSError(errno.ENOSPC, "less free space than is to be kept free")

    def _end_after(self, kept: int, written: int) -> None:
        """End the file behind the last whole line; where it cannot be cut it keeps the name of one that is not whole."""
        descriptor = self._descriptor
        assert descriptor is not None
        self._size += kept
        try:
            if written > kept:
                os.ftruncate(descriptor, self._size)
        except OSError:
            self._abandon()
            return
        with contextlib.suppress(OSError):
            self.finish()

    def _abandon(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _sync(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError:
            self._abandon_if_current(descriptor)
            raise
        self._is_dirty = False

    def _abandon_if_current(self, descriptor: int) -> None:
        # After a failed sync nobody knows what is on disk: no more is put behind it.
        if descriptor == self._descriptor:
            self._abandon()


def end_file(path: Path, size: int) -> None:
    """Give a file that is whole its last name; an empty one goes."""
    if size:
        path.rename(path.with_name(path.name.removesuffix(OPEN_SUFFIX) + WHOLE_SUFFIX))
    else:
        path.unlink()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
