"""Reading a segment in pieces that are short enough to let waiting writes pass."""

from __future__ import annotations

import logging
from contextlib import closing

from feature_store.events.spool_segment import Segment

_PIECE_BYTES = 256 * 1024
_PIECE_RECORDS = 2048
_log = logging.getLogger("rankline.spool")


def read_piece(
    segment: Segment, after: int, max_records: int, max_bytes: int, *, at_least_one: bool
) -> tuple[list[tuple[int, bytes]], bool]:
    """Records of one file that fit, and whether there was one at all, fitting or not."""
    found: list[tuple[int, bytes]] = []
    expected, taken_bytes = max(after + 1, segment.first), 0
    try:
        with closing(segment.records(after)) as records:
            for sequence, _, payload in records:
                if sequence != expected:
                    _log.error("spool records lost", extra={"segment": segment.path.name, "records": sequence - expected})
                expected = sequence + 1
                taken_bytes += len(payload)
                if taken_bytes > max_bytes and (found or not at_least_one):
                    return found, True
                found.append((sequence, payload))
                if len(found) >= min(max_records, _PIECE_RECORDS) or taken_bytes >= _PIECE_BYTES:
                    break
    except FileNotFoundError:  # somebody deleted it under us: as lost as damaged records
        return found, False
    return found, bool(found)
