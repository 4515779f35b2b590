"""Answers on their way to the writer's thread: bounded in bytes, without a lock."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import time

_OVERHEAD_BYTES = 96
"""What an answer costs in memory beside its text: the objects' heads, its time, its places in two lists."""


class ExposureBuffer:
    """One thread puts in (the event loop's), one takes out (the writer's).

    Each number is written by one of the two; the lists' ``append``, slices and ``del`` are single steps of the interpreter.
    """

    __slots__ = ("_answers", "_capacity", "_entered", "_left", "_times", "_wake_at", "_woken", "wake")

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._wake_at = capacity_bytes // 4
        self._times: list[float] = []
        self._answers: list[bytes] = []
        self._entered = self._left = 0
        self._woken = False
        self.wake = threading.Event()
        """Set when much waits; whoever ends the writer sets it, too."""

    def offer(self, answer: bytes) -> bool:
        """Take an answer, served now, if there is room."""
        size = len(answer) + _OVERHEAD_BYTES
        waiting = self._entered - self._left + size
        if waiting > self._capacity:
            return False
        self._entered += size
        self._times.append(time())  # first: whoever sees the answer finds its time
        self._answers.append(answer)
        if waiting > self._wake_at and not self._woken:
            self._woken = True  # once, not per answer: setting an event costs as much as all the rest
            self.wake.set()
        return True

    def close(self) -> None:
        """Take no more."""
        self._capacity = -1

    @property
    def waiting(self) -> int:
        """How many answers were taken and not let go."""
        return len(self._answers)

    @property
    def waiting_bytes(self) -> int:
        """Memory held by what was taken and not let go."""
        return self._entered - self._left

    def first(self, max_bytes: int) -> tuple[list[float], list[bytes]]:
        """The oldest answers and when they were served, at most about ``max_bytes`` but at least one; they stay."""
        self._woken = False
        count = len(self._answers)
        if self.waiting_bytes > max_bytes:
            count = _fitting(self._answers[:count], max_bytes)
        return self._times[:count], self._answers[:count]

    def let_go(self, answers: Sequence[bytes]) -> None:
        """Forget the oldest answers, which are these."""
        count = len(answers)
        del self._times[:count]
        del self._answers[:count]
        self._left += sum(map(len, answers)) + _OVERHEAD_BYTES * count


def _fitting(answers: Sequence[bytes], max_bytes: int) -> int:
    size = 0
    for count, answer in enumerate(answers):
        size += len(answer)
        if size > max_bytes:
            return max(1, count)
    return len(answers)
