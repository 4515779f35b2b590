"""Which core does what, and who used how much of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Layout:
    """``served``: what is measured runs there; ``load``: the generator and the store."""

    served: frozenset[int]
    load: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Layout:
        """The first usable core for what is measured, the last for the load. On one core both share it: the report says so."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(frozenset(usable[:1]), frozenset(usable[-1:]))

    @property
    def both(self) -> frozenset[int]:
        """All of them."""
        return self.served | self.load


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
