"""Which core does what, and who used how much of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Layout:
    """``served``: what is measured runs there; ``load``: the generator and the store."""

    served: frozenset[int]
    load: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Layout:
        """The first usable core for what is measured; for the load the last that is not the same core's other thread.

        On one core both share it: the report says so.
        """
        usable = sorted(os.sched_getaffinity(0))
        others = [core for core in usable if core not in siblings(usable[0])]
        return cls(frozenset(usable[:1]), frozenset((others or usable)[-1:]))

    @property
    def both(self) -> frozenset[int]:
        """All of them."""
        return self.served | self.load


def siblings(core: int) -> frozenset[int]:
    """The threads of the physical core that ``core`` is a thread of, as the system tells it."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    if not path.is_file():
        return frozenset({core})
    found: set[int] = set()
    for part in path.read_text().strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """What is started inside runs on these cores, with all its threads and children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def processor_seconds(pid: int) -> float:
    """Processor time of a process and its living descendants so far."""
    process = psutil.Process(pid)
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
