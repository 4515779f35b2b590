"""What became of the answers offered to the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExposureCounts:
    """Of one process since its start.

    ``dropped`` by reason: ``full`` (the writer was too slow), ``disk`` (no room because the disk refuses), ``unusable`` (not a
    line of JSON), ``closed`` (the process ended first). ``offered`` is ``written`` plus all dropped plus what waits.
    ``is_failing``: the disk refused the last try.
    """

    offered: int
    written: int
    dropped: Mapping[str, int]
    waiting_bytes: int
    is_failing: bool
