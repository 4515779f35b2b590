"""The waiting line of a batcher: earliest deadline first, counted in rows. Knows no event loop, no clock, no arrays."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

_SLACK = 64
"""Withdrawn places that may stay before the heap is rebuilt."""


@dataclass(slots=True, eq=False)
class Place(Generic[T]):
    """One place in the line; ``waiting`` ends when it is taken or withdrawn."""

    value: T | None
    rows: int
    deadline: float
    waiting: bool = True


class DeadlineQueue(Generic[T]):
    """Entries with a number of rows, taken by earliest deadline, ties in order of arrival."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Place[T]]] = []
        self._arrivals = count()
        self._length = 0
        self._latest = -math.inf
        self.rows = 0

    def __len__(self) -> int:
        """Entries that wait."""
        return self._length

    def push(self, value: T, *, rows: int, deadline: float) -> Place[T]:
        """Join the line; the place returned is what ``withdraw`` takes."""
        place = Place(value, rows, deadline)
        self._latest = max(self._latest, deadline) if self._length else deadline
        heapq.heappush(self._heap, (deadline, next(self._arrivals), place))
        self._length += 1
        self.rows += rows
        return place

    def withdraw(self, place: Place[T]) -> None:
        """Leave the line and let go of the value at once; nothing happens when the place was taken already.

        The heap's empty places are swept when they outnumber the living, so that callers who come and leave while one
        long run is in progress cost no memory.
        """
        if not place.waiting:
            return
        self._leave(place)
        if len(self._heap) > 2 * self._length + _SLACK:
            self._heap = [each for each in self._heap if each[2].waiting]
            heapq.heapify(self._heap)

    def head(self) -> Place[T] | None:
        """Who is next."""
        while self._heap:
            place = self._heap[0][2]
            if place.waiting:
                return place
            heapq.heappop(self._heap)
        return None

    def lessen(self, place: Place[T], rows: int) -> None:
        """So many rows of an entry are served; the rest, at least one row, keeps its place."""
        assert place.waiting
        assert 0 < rows < place.rows
        place.rows -= rows
        self.rows -= rows

    def take(self, max_rows: int, max_rows_each: float = math.inf) -> list[T]:
        """The next entries that fit ``max_rows`` together; the first is taken in any case.

        Stops at the first entry that does not fit, or has more than ``max_rows_each``: it heads the next batch, and no later
        deadline overtakes it. An entry with more than ``max_rows_each`` is taken alone.
        """
        taken: list[T] = []
        free = max_rows
        while (place := self.head()) is not None:
            if taken and (place.rows > free or place.rows > max_rows_each):
                break
            free = free - place.rows if place.rows <= max_rows_each else 0
            taken.append(self._leave(place))
            heapq.heappop(self._heap)
        return taken

    def take_expired(self, now: float) -> list[T]:
        """Everything whose deadline is not after ``now``, in order."""
        taken: list[T] = []
        while (place := self.head()) is not None and place.deadline <= now:
            taken.append(self._leave(place))
        return taken

    def rows_before(self, deadline: float, most_entries: int) -> int | None:
        """Rows that are due no later than an entry that would come now; None where more than so many entries would be counted.

        Where the deadline is the latest of all, nothing is counted. Else the heap is walked from its head, and below an entry
        that is due later all are: at most ``2 * most_entries + 1`` are looked at, however many wait.
        """
        if deadline >= self._latest:
            return self.rows
        heap, rows, counted = self._heap, 0, 0
        ahead = [0] if heap else []
        while ahead:
            at = ahead.pop()
            due, _, place = heap[at]
            if due > deadline:
                continue
            counted += 1
            if counted > most_entries:
                return None
            if place.waiting:
                rows += place.rows
            ahead += range(2 * at + 1, min(2 * at + 3, len(heap)))
        return rows

    def take_all(self) -> list[T]:
        """Everything that waits, in order."""
        return self.take(self.rows) if self._length else []

    def _leave(self, place: Place[T]) -> T:
        value = place.value
        assert value is not None
        place.value = None
        place.waiting = False
        self._length -= 1
        self.rows -= place.rows
        return value
