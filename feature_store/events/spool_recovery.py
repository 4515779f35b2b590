"""What a spool's directory holds after the process that wrote it has gone, however it went."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from feature_store.events.spool_segment import (
    HEAD_BYTES,
    MAX_SEQUENCE,
    RECORD_HEAD_BYTES,
    Segment,
    segment_firsts,
    segment_path,
)

_log = logging.getLogger("rankline.spool")


@dataclass(frozen=True, slots=True)
class Recovered:
    """Segments in order, each with one record at least; ``durable`` and ``applied`` as sequence numbers."""

    segments: list[Segment]
    durable: int
    applied: int
    corrupt_records: int


def recover(directory: Path, applied: int) -> Recovered:
    """Read every segment that holds unapplied records; the applied ones are taken by name and size, and checked when read.

    Bytes behind the last sound record of the last segment are the torn end of a write that was never acknowledged: they are
    cut off. Damage elsewhere loses the damaged records only.

    Raises:
        OSError: the disk refuses.
    """
    firsts = segment_firsts(directory)
    segments: list[Segment] = []
    corrupt_records = 0
    for first, following in zip_longest(firsts, firsts[1:]):
        segment, lost = _segment(directory, first, following, applied)
        corrupt_records += lost
        if segment is not None:
            segments.append(segment)
    if corrupt_records:
        _log.error("spool records lost", extra={"spool": directory.name, "records": corrupt_records})
    if segments:
        applied = max(applied, segments[0].first - 1)
    durable = max(applied, segments[-1].last if segments else 0)
    return Recovered(segments, durable, applied, corrupt_records)


def _segment(directory: Path, first: int, following: int | None, applied: int) -> tuple[Segment | None, int]:
    path = segment_path(directory, first)
    status = path.stat()
    last = MAX_SEQUENCE if following is None else following - 1
    segment = Segment(path, first=first, last=last, length=status.st_size)
    segment.applied_at = status.st_mtime
    if last <= applied:
        return segment, 0
    sound = _measure(segment)
    # In the last segment only a mark beyond its end tells lost records from a write that nobody was told of.
    promised = max(applied, segment.last) if following is None else last
    lost = max(0, promised - first + 1 - sound)
    if sound:
        if following is None and segment.length < status.st_size:
            os.truncate(path, segment.length)
        return segment, lost
    if following is None and status.st_size <= HEAD_BYTES + RECORD_HEAD_BYTES:
        path.unlink()
    else:
        path.replace(path.with_suffix(".unreadable"))
    return None, lost


def _measure(segment: Segment) -> int:
    """Set the segment's last number and length to what can be read; how many records that is."""
    sound, last, length = 0, segment.first - 1, 0
    with closing(segment.records(segment.first - 1)) as records:
        for sequence, offset, payload in records:
            sound, last, length = sound + 1, sequence, offset + RECORD_HEAD_BYTES + len(payload)
    segment.last, segment.length = last, length
    return sound
