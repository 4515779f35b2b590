"""Files that dead processes left open: cut behind their last whole line and given their last name."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path

from service.exposure.files import OPEN_SUFFIX, PREFIX, end_file

_log = logging.getLogger("rankline.exposures")
_PIECE = 65_536


def end_leftovers(directory: Path) -> int:
    """End what nobody holds a lock on; how many files. A disk that refuses leaves them to the next process."""
    ended = 0
    with contextlib.suppress(OSError):
        for path in sorted(directory.glob(f"{PREFIX}*{OPEN_SUFFIX}")):
            with contextlib.suppress(OSError):
                ended += _end(path)
    if ended:
        _log.warning("ended exposure files of dead processes", extra={"files": ended})
    return ended


def _end(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            return False
        size = _whole_size(descriptor)
        os.ftruncate(descriptor, size)
        end_file(path, size)
        return True
    finally:
        os.close(descriptor)


def _whole_size(descriptor: int) -> int:
    """Bytes up to and with the last line's end."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - _PIECE)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
