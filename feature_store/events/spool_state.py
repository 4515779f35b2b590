"""The small files beside the segments: the lock, the spool's id and the mark of what has been applied."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import struct
import zlib
from contextlib import suppress
from pathlib import Path

from feature_store.errors import SpoolLockedError
from feature_store.events.spool_segment import sync_directory, write_whole

_ID = re.compile(r"[0-9a-f]{32}")
_MARK = struct.Struct("<QI")


def make_directory(directory: Path) -> None:
    """Make the directory and those above it, for this user alone, with durable names; nothing if it is there.

    Raises:
        OSError: it cannot be made, or is no directory.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)


def lock_directory(directory: Path) -> int:
    """Take the directory for this process; the descriptor that holds it until it is closed or the process ends.

    Raises:
        SpoolLockedError: somebody has it.
        OSError: the lock file cannot be used.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise SpoolLockedError(f"another process uses the spool {directory.name}") from error
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_or_make_id(directory: Path) -> str:
    """The spool's id, made at the first call. A damaged one is made anew: to the store it is then a spool never seen before.

    Raises:
        OSError: it can be neither read nor written.
    """
    path = directory / "id"
    with suppress(FileNotFoundError, UnicodeDecodeError):
        found = path.read_text("ascii").strip()
        if _ID.fullmatch(found):
            return found
    made = secrets.token_hex(16)
    staged = directory / "id.new"
    descriptor = os.open(staged, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        write_whole(descriptor, made.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    staged.replace(path)
    sync_directory(directory)
    return made


class AppliedMark:
    """The last sequence number known to be applied, in twelve bytes written in place: number (u64), CRC-32 of it (u32).

    Never synced: an older or unreadable mark only makes some records be applied again.
    """

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / "applied", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int:
        """The number, or 0 with no sound mark."""
        data = os.pread(self._descriptor, _MARK.size, 0)
        if len(data) < _MARK.size:
            return 0
        sequence, crc = _MARK.unpack(data)
        return int(sequence) if zlib.crc32(data[:8]) == crc else 0

    def write(self, sequence: int) -> None:
        """Replace the number.

        Raises:
            OSError: the disk refused it.
        """
        data = sequence.to_bytes(8, "little")
        os.pwrite(self._descriptor, data + zlib.crc32(data).to_bytes(4, "little"), 0)

    def close(self) -> None:
        """Leave the file."""
        os.close(self._descriptor)
