"""The waiting line of a batcher: earliest deadline first, counted in rows. Knows no event loop, no clock, no arrays."""

from __future__ import annotations

import heapq
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
    waiting: bool = True


class DeadlineQueue(Generic[T]):
    """Entries with a number of rows, taken by earliest deadline, ties in order of arrival."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Place[T]]] = []
        self._arrivals = count()
        self._length = 0
        self.rows = 0

    def __len__(self) -> int:
        """Entries that wait."""
        return self._length

    def push(self, value: T, *, rows: int, deadline: float) -> Place[T]:
        """Join the line; the place returned is what ``withdraw`` takes."""
        place = Place(value, rows)
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

    def take(self, max_rows: int) -> list[T]:
        """The next entries that fit ``max_rows`` together; an entry larger than that is taken alone.

        Stops at the first entry that does not fit: it heads the next batch, and no later deadline overtakes it.
        """
        taken: list[T] = []
        free = max_rows
        while self._heap:
            place = self._heap[0][2]
            if place.waiting:
                if taken and place.rows > free:
                    break
                free -= place.rows
                taken.append(self._leave(place))
            heapq.heappop(self._heap)
        return taken

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
