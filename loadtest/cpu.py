"""Who used the processor during the run: the generator, the service, and the whole machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import psutil

from loadtest.errors import OptionRefusedError


@dataclass(frozen=True, slots=True)
class CpuPoint:
    """Processor seconds used so far, at one moment (seconds of wall time)."""

    at_s: float
    generator_s: float
    service_s: float
    machine_s: float


@dataclass(frozen=True, slots=True)
class CoresBusy:
    """Mean cores in use over a time. ``service`` is None when no process id was given."""

    generator: float
    service: float | None
    machine: float


@dataclass(frozen=True, slots=True)
class CpuTimeline:
    """Processor use over the run."""

    points: list[CpuPoint]
    watches_service: bool = False

    def busy(self, start_s: float, end_s: float) -> CoresBusy | None:
        """Mean cores in use between two moments of wall time; None with fewer than two points to tell from."""
        if len(self.points) < 2:
            return None
        moments = np.array([point.at_s for point in self.points])
        start_s, end_s = max(start_s, moments[0]), min(end_s, moments[-1])
        if end_s <= start_s:
            return None

        def mean(values: list[float]) -> float:
            return float(np.diff(np.interp([start_s, end_s], moments, values))[0] / (end_s - start_s))

        return CoresBusy(
            generator=mean([point.generator_s for point in self.points]),
            service=mean([point.service_s for point in self.points]) if self.watches_service else None,
            machine=mean([point.machine_s for point in self.points]),
        )


class CpuSampler:
    """Reads processor counters of k6, of the service with all its children, and of the machine."""

    def __init__(self, generator_pid: int, server_pid: int | None) -> None:
        self._generator = psutil.Process(generator_pid)
        self._server = None if server_pid is None else find_process(server_pid)
        self._points: list[CpuPoint] = []

    def sample(self) -> None:
        """Add one point; skipped when a process ended meanwhile."""
        try:
            point = CpuPoint(time.time(), _used_s(self._generator), _tree_used_s(self._server), _machine_used_s())
        except psutil.Error:
            return
        self._points.append(point)

    def timeline(self) -> CpuTimeline:
        """What was sampled so far."""
        return CpuTimeline(list(self._points), watches_service=self._server is not None)


def find_process(pid: int) -> psutil.Process:
    """The service's process.

    Raises:
        OptionRefusedError: there is none with this id.
    """
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        raise OptionRefusedError(f"--server-pid {pid}: there is no such process") from None


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _tree_used_s(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    return sum(_used_s(part) for part in (process, *process.children(recursive=True)))


def _machine_used_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
