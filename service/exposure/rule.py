"""How exposures are kept: where, how much may wait, when a file ends, when the disk is made sure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.settings import ExposureSettings

FsyncPolicy = Literal["none", "rotation", "interval"]


@dataclass(frozen=True, slots=True)
class ExposureRule:
    """Sizes in bytes, lengths of time in seconds.

    ``capacity_bytes`` bounds what waits in memory. A file ends before it would be longer than ``rotate_bytes``, or when it is
    ``rotate_s`` old. Below ``keep_free_bytes`` of free space nothing is written. ``fsync``: never; when a file ends; or every
    ``fsync_s``, too. With a ``key`` users are named by its keyed hash.
    """

    directory: Path
    capacity_bytes: int = 64 * 1_048_576
    rotate_bytes: int = 256 * 1_048_576
    rotate_s: float = 300.0
    fsync: FsyncPolicy = "rotation"
    fsync_s: float = 1.0
    keep_free_bytes: int = 256 * 1_048_576
    key: bytes | None = None


def rule_of(settings: ExposureSettings) -> ExposureRule | None:
    """The rule that the settings make; None: no exposures are kept."""
    if settings.directory is None:
        return None
    return ExposureRule(
        directory=settings.directory,
        capacity_bytes=settings.capacity_bytes,
        rotate_bytes=settings.rotate_bytes,
        rotate_s=settings.rotate_s,
        fsync=settings.fsync,
        fsync_s=settings.fsync_s,
        keep_free_bytes=settings.keep_free_bytes,
        key=None if settings.key is None else settings.key.get_secret_value().encode(),
    )
