"""How many CPUs this process may really use: its affinity mask and the CPU quota of its control groups.

Thread pools that count the host's cores throttle themselves in a container, so ONNX Runtime is always told a number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class CgroupFiles:
    """Where Linux tells the groups of this process and their limits."""

    membership: Path = Path("/proc/self/cgroup")
    mount: Path = Path("/sys/fs/cgroup")


def usable_cpus(files: CgroupFiles | None = None) -> int:
    """Whole CPUs that may be kept busy, at least 1: the affinity mask, cut by the tightest quota.

    A fraction is rounded down: the thread it would pay for is paused for most of every quota period, and requests with it.
    """
    allowed = _affinity()
    quota = cgroup_quota(files or CgroupFiles())
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cgroup_quota(files: CgroupFiles) -> float | None:
    """The tightest CPU quota, in CPUs, over this process's groups and all their ancestors; None without one.

    Reads control groups version 2 (``cpu.max``) and version 1 (``cpu.cfs_quota_us``). Inside a container the listed path
    may not be visible; its ancestors, up to the mount itself, are then what is left to ask.
    """
    quotas = [quota for directory in _directories(files) if (quota := _quota_of(directory)) is not None]
    return min(quotas, default=None)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _directories(files: CgroupFiles) -> Iterator[Path]:
    """The directories that may limit this process, innermost first, for every hierarchy that controls CPU time."""
    for line in _lines(files.membership):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            mounts = [files.mount, files.mount / "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [files.mount / "cpu", files.mount / controllers]
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for part in (inside, *inside.parents):
                yield mount / part


def _quota_of(directory: Path) -> float | None:
    """The directory's own quota in CPUs, by whichever version's file is there."""
    match _numbers(directory / "cpu.max"):
        case [quota, period]:
            return _ratio(quota, period)
    match _numbers(directory / "cpu.cfs_quota_us"), _numbers(directory / "cpu.cfs_period_us"):
        case [[quota], [period]]:
            return _ratio(quota, period)
    return None


def _ratio(quota_us: float, period_us: float) -> float | None:
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _numbers(path: Path) -> list[float]:
    """The numbers of a file's first line; nothing when it is absent, or says ``max``."""
    try:
        return [float(word) for word in next(_lines(path), "").split()]
    except ValueError:
        return []


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
