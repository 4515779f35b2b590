"""What lies in a spool's directory that belongs to another store: counted, never touched."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from feature_store.events.spool_segment import MAX_SEQUENCE, Segment, segment_firsts, segment_path
from feature_store.events.spool_state import read_applied, read_next


@dataclass(frozen=True, slots=True)
class ForeignSpools:
    """Folders of other stores that no process uses, and the records in them that were not applied yet."""

    folders: int = 0
    records: int = 0


def foreign_spools(directories: list[Path]) -> ForeignSpools:
    """Count what the directories hold; one that cannot be read counts as a folder without records."""
    return ForeignSpools(len(directories), sum(map(_pending_or_none, directories)))


def _pending_or_none(directory: Path) -> int:
    try:
        return _pending(directory)
    except OSError:
        return 0


def _pending(directory: Path) -> int:
    firsts = segment_firsts(directory)
    if not firsts:
        return 0
    applied = max(read_applied(directory), read_next(directory) - 1, firsts[0] - 1)
    path = segment_path(directory, firsts[-1])
    return max(0, _last(path, firsts[-1], path.stat().st_size) - applied)


@lru_cache(maxsize=1024)
def _last(path: Path, first: int, length: int) -> int:
    """The last sequence number in a file; it is read once as long as it does not grow."""
    last = first - 1
    with closing(Segment(path, first=first, last=MAX_SEQUENCE, length=length).records(first - 1)) as records:
        for sequence, _, _ in records:
            last = sequence
    return last
