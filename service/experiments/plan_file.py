"""The plan's file: read whole, and recognized as changed without being read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from feature_store.strict_yaml import MAX_BYTES
from service.experiments.errors import PlanInvalidError

FileSignature = tuple[str, int, int, int, int, int]


def file_signature(path: Path) -> FileSignature | None:
    """What changes when the file does: its real path (a swapped link), device, inode, size, mtime and ctime; None if gone."""
    try:
        real = os.path.realpath(path, strict=True)
        found = os.stat(real)  # noqa: PTH116 - the resolved text is part of the signature
    except OSError:
        return None
    return real, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def read_plan_text(path: Path) -> str:
    """The text of a plan file.

    Raises:
        PlanInvalidError: no readable regular file, too large, or not UTF-8.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PlanInvalidError([f"{path}: not a regular file"])
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PlanInvalidError([f"{path}: {error.strerror or error}"]) from None
    if len(raw) > MAX_BYTES:
        raise PlanInvalidError([f"{path}: longer than {MAX_BYTES} bytes"])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PlanInvalidError([f"{path}: not UTF-8 at byte {error.start}"]) from None
