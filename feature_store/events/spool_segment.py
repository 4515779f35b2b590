"""One segment of the spool: its bytes on disk, writing them and reading them back.

A segment is a file named by the sequence number of its first record. All numbers are little-endian:

    segment = "RLSPOOL1"  salt (u32)  zero (u32)  record ...
    record  = crc (u32)  length of the payload (u32)  sequence number (u64)  payload

``crc`` is the CRC-32 of everything behind it in the record, started from the salt. The salt is random, so nobody who writes
payloads can make one that passes for a record when the reader looks for the next sound record behind a damaged one.
Sequence numbers rise by one. A segment ends where the name of the next one says: what a failed write left behind the last
good record, and could not be cut off, is never read.
"""

from __future__ import annotations

import os
import re
import secrets
import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path

MAX_RECORD_BYTES = 1024 * 1024
MAX_SEQUENCE = 2**63 - 1
HEAD_BYTES = 16
RECORD_HEAD_BYTES = 16

_MAGIC = b"RLSPOOL1"
_HEAD = struct.Struct("<8sII")
_CRC = struct.Struct("<I")
_REST = struct.Struct("<IQ")
_RECORD = struct.Struct("<IIQ")
_NAME = re.compile(r"[0-9]{20}\.seg")
_WINDOW_BYTES = 256 * 1024
_LONGEST_BYTES = RECORD_HEAD_BYTES + MAX_RECORD_BYTES
_MARK_BYTES = 32 * 1024
_DAMAGED_RECORDS = 512  # how many damaged ones in a row the search for the next sound one gets over

Record = tuple[int, int, bytes]
"""Sequence number, offset in the file, payload."""


def segment_path(directory: Path, first: int) -> Path:
    """Where the segment that starts with sequence number ``first`` lies."""
    return directory / f"{first:020d}.seg"


def segment_firsts(directory: Path) -> list[int]:
    """First sequence numbers of all segments in the directory, rising."""
    firsts = [int(entry.stem) for entry in directory.iterdir() if _NAME.fullmatch(entry.name)]
    return sorted(first for first in firsts if 1 <= first <= MAX_SEQUENCE)


def sync_directory(directory: Path) -> None:
    """Make the names in the directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all bytes; a short write goes on with the rest, and says by its error why it was short."""
    view = memoryview(data)
    while view:
        written = os.write(descriptor, view)
        if written <= 0:
            raise OSError("the disk took no bytes")
        view = view[written:]


class Segment:
    """What is known of one file: records ``first`` to ``last``, in its first ``length`` bytes.

    Remembers where a record starts about every 32 KiB of what was read, so that the next read starts near its place.
    """

    __slots__ = ("_mark_offsets", "_mark_sequences", "applied_at", "first", "last", "length", "path")

    def __init__(self, path: Path, *, first: int, last: int, length: int) -> None:
        self.path = path
        self.first = first
        self.last = last
        self.length = length
        self.applied_at = 0.0
        self._mark_sequences = array("Q", [first])
        self._mark_offsets = array("Q", [HEAD_BYTES])

    def records(self, after: int) -> Generator[Record, None, None]:
        """Sound records with a sequence number above ``after``; a gap in the numbers is what damage took.

        Close the iterator when done with it early.

        Raises:
            OSError: the file cannot be read.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.pread(descriptor, HEAD_BYTES, 0)
            if len(head) < HEAD_BYTES or not head.startswith(_MAGIC):
                return
            salt = _HEAD.unpack(head)[1]
            at = bisect_right(self._mark_sequences, max(after + 1, self.first)) - 1
            start, sequence = self._mark_offsets[at], self._mark_sequences[at]
            for record in _scan(descriptor, salt, start=start, end=self.length, sequence=sequence):
                if record[0] > self.last:
                    return
                if record[1] >= self._mark_offsets[-1] + _MARK_BYTES:
                    self._mark_sequences.append(record[0])
                    self._mark_offsets.append(record[1])
                if record[0] > after:
                    yield record
        finally:
            os.close(descriptor)

    def bytes_after(self, sequence: int) -> int:
        """Bytes of the records above the sequence number, as they lie in the file."""
        if sequence < self.first:
            return self.length - HEAD_BYTES
        if sequence >= self.last:
            return 0
        with closing(self.records(sequence)) as records:
            return next((self.length - offset for _, offset, _ in records), 0)


class SegmentWriter:
    """A new file at the end of the log. After an error it must be abandoned: what it holds behind ``length`` is unknown.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, directory: Path, first: int) -> None:
        self.segment = Segment(segment_path(directory, first), first=first, last=first - 1, length=0)
        self._salt = secrets.randbits(32)
        # A file of this name holds nothing durable: it was abandoned at its first write and could not be removed then.
        self.segment.path.unlink(missing_ok=True)
        self.descriptor = os.open(self.segment.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, payloads: Sequence[bytes]) -> int:
        """Write the payloads as the next records and sync them; bytes of the records.

        Raises:
            OSError: they are not all durable.
        """
        segment, is_new = self.segment, self.segment.length == 0
        records = _encode(payloads, first=segment.last + 1, salt=self._salt)
        write_whole(self.descriptor, _HEAD.pack(_MAGIC, self._salt, 0) + records if is_new else records)
        os.fdatasync(self.descriptor)
        if is_new:
            sync_directory(segment.path.parent)
        segment.length += len(records) + (HEAD_BYTES if is_new else 0)
        segment.last += len(payloads)
        return len(records)

    def abandon(self) -> None:
        """Cut off what is not known to be durable, if the disk lets us, and leave the file."""
        with suppress(OSError):
            if self.segment.length:
                os.ftruncate(self.descriptor, self.segment.length)
            else:
                self.segment.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave the file; everything in it was synced when it was written."""
        with suppress(OSError):
            os.close(self.descriptor)


def _encode(payloads: Sequence[bytes], *, first: int, salt: int) -> bytes:
    parts: list[bytes] = []
    for sequence, payload in enumerate(payloads, first):
        rest = _REST.pack(len(payload), sequence)
        parts += (_CRC.pack(zlib.crc32(payload, zlib.crc32(rest, salt))), rest, payload)
    return b"".join(parts)


def _scan(descriptor: int, salt: int, *, start: int, end: int, sequence: int) -> Generator[Record, None, None]:
    size = _WINDOW_BYTES
    while start < end:
        window = os.pread(descriptor, min(size, end - start), start)
        position = 0
        while (payload := _payload_at(window, position, salt, sequence)) is not None:
            yield sequence, start + position, payload
            position += RECORD_HEAD_BYTES + len(payload)
            sequence += 1
        if position:
            start, size = start + position, _WINDOW_BYTES
        elif size < _LONGEST_BYTES and size < end - start:
            size = _LONGEST_BYTES  # perhaps only longer than the window
        else:
            found = _next_sound(os.pread(descriptor, end - start, start), salt, sequence)
            if found is None:
                return
            start, sequence = start + found[0], found[1]


def _payload_at(window: bytes, position: int, salt: int, sequence: int) -> bytes | None:
    payload_at = position + RECORD_HEAD_BYTES
    if payload_at > len(window):
        return None
    crc, length, found = _RECORD.unpack_from(window, position)
    if found != sequence or length > MAX_RECORD_BYTES or payload_at + length > len(window):
        return None
    if zlib.crc32(window[position + 4 : payload_at + length], salt) != crc:
        return None
    return window[payload_at : payload_at + length]


def _next_sound(rest: bytes, salt: int, damaged: int) -> tuple[int, int] | None:
    """Position and sequence number of the next sound record behind the damaged one."""
    for sequence in range(damaged + 1, damaged + 1 + _DAMAGED_RECORDS):
        pattern = sequence.to_bytes(8, "little")
        at = rest.find(pattern, 8)
        while at >= 0:
            if _payload_at(rest, at - 8, salt, sequence) is not None:
                return at - 8, sequence
            at = rest.find(pattern, at + 1)
    return None
