"""The small files beside the segments: the lock, the spool's id, its store, the mark of what is applied, the next number."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import secrets
import struct
import zlib
from contextlib import suppress
from pathlib import Path

from feature_store.errors import SpoolForeignError, SpoolLockedError
from feature_store.events.spool_segment import sync_directory, write_whole
from feature_store.store_identity import is_same_store

_ID = re.compile(r"[0-9a-f]{32}")
_MARK = struct.Struct("<QI")
_STORE, _NEXT = "store", "next"
_MAX_STORE_BYTES = 64 * 1024
_SMALL_FILES = frozenset({"applied", "id", "id.new", "lock", _NEXT, f"{_NEXT}.new", _STORE, f"{_STORE}.new"})


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
    if not is_still(directory / "lock", descriptor):
        os.close(descriptor)
        raise SpoolLockedError(f"the spool {directory.name} was being removed")
    return descriptor


def is_locked(directory: Path) -> bool:
    """Whether somebody has the directory; False if it has no lock file.

    Raises:
        OSError: the lock file cannot be used.
    """
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_still(path: Path, descriptor: int) -> bool:
    """Whether the path leads to the open file.

    Raises:
        OSError: that cannot be told.
    """
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return False


def remove_directory(directory: Path) -> None:
    """Delete a locked directory if it holds only the small files of every spool; the lock goes last, so that nobody else
    can take what is half gone.

    Raises:
        OSError: not everything could be deleted.
    """
    names = {entry.name for entry in directory.iterdir()}
    if names <= _SMALL_FILES:
        for name in sorted(names, key=lambda name: name == "lock"):
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()


def read_store(directory: Path) -> str | None:
    """The fingerprint of the store that the records are for; None where none is noted.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return (directory / _STORE).read_bytes()[:_MAX_STORE_BYTES].decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None


def check_store(directory: Path, store: str) -> None:
    """Note the store at the first call, before there are records; refuse another one from then on. Nothing if it is empty.

    A directory without a note is taken: to give a spool to another store, delete its file ``store``. A cluster that is reached
    by other seeds than before, one of them the same, is noted by those.

    Raises:
        SpoolForeignError: the records are another store's.
        OSError: the note can be neither read nor written.
    """
    if not store:
        return
    noted = read_store(directory)
    if noted is not None and not is_same_store(noted, store):
        raise SpoolForeignError(f"the spool {directory.name} is of another store")
    if noted != store:
        _write_durably(directory, _STORE, store.encode("ascii"))


def read_next(directory: Path) -> int:
    """The number that the next record had when the last file was deleted; 1 when none was, or the file is damaged.

    Raises:
        OSError: it cannot be read.
    """
    try:
        data = (directory / _NEXT).read_bytes()
    except FileNotFoundError:
        return 1
    return max(1, _number(data))


def write_next(directory: Path, sequence: int) -> None:
    """Keep the next number, durably.

    Raises:
        OSError: the disk refuses.
    """
    _write_durably(directory, _NEXT, _number_bytes(sequence))


def append_rejected(directory: Path, sequence: int, payload: bytes, reason: str, *, limit_bytes: int) -> None:
    """Append a record that nobody can use to the file ``rejected``, as a line of JSON; nothing when that is full.

    Raises:
        OSError: the disk refuses.
    """
    content = {"sequence": sequence, "reason": reason, "payload": base64.b64encode(payload).decode()}
    line = json.dumps(content).encode() + b"\n"
    with (directory / "rejected").open("ab") as file:
        if file.tell() + len(line) <= limit_bytes:
            file.write(line)


def _write_durably(directory: Path, name: str, data: bytes) -> None:
    staged = directory / f"{name}.new"
    descriptor = os.open(staged, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        write_whole(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    staged.replace(directory / name)
    sync_directory(directory)


def _number(data: bytes) -> int:
    """The number, or 0 where there is no sound one."""
    if len(data) < _MARK.size:
        return 0
    sequence, crc = _MARK.unpack(data[: _MARK.size])
    return int(sequence) if zlib.crc32(data[:8]) == crc else 0


def _number_bytes(sequence: int) -> bytes:
    data = sequence.to_bytes(8, "little")
    return data + zlib.crc32(data).to_bytes(4, "little")


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
    _write_durably(directory, "id", made.encode())
    return made


def read_applied(directory: Path) -> int:
    """The mark of what is applied, of a directory that need not be this process's; 0 with no sound one.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return _number((directory / "applied").read_bytes())
    except FileNotFoundError:
        return 0


class AppliedMark:
    """The last sequence number known to be applied, in twelve bytes written in place: number (u64), CRC-32 of it (u32).

    Never synced: an older or unreadable mark only makes some records be applied again.
    """

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / "applied", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int:
        """The number, or 0 with no sound mark."""
        return _number(os.pread(self._descriptor, _MARK.size, 0))

    def write(self, sequence: int) -> None:
        """Replace the number.

        Raises:
            OSError: the disk refused it.
        """
        os.pwrite(self._descriptor, _number_bytes(sequence), 0)

    def close(self) -> None:
        """Leave the file."""
        os.close(self._descriptor)
