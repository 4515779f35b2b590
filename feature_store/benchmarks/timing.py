"""Times of several ways to do one thing, taken in turns, so that what else the machine does falls on all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

Way = Callable[[], Awaitable[object]]
Times = dict[str, list[float]]
"""Milliseconds by way, one a round."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some figures, the quartiles and the ends."""

    median: float
    first_quartile: float
    third_quartile: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return cls(quartiles[1], quartiles[0], quartiles[2], min(values), max(values))


async def in_turns(ways_of: Callable[[], Mapping[str, Way]], rounds: int) -> Times:
    """Run every way once a round, beginning with another each time; one more round before the first is not counted.

    Args:
        ways_of: Makes a round's ways, with that round's input; the making is not timed.
    """
    times: Times = {}
    gc.collect()
    gc.freeze()  # as the service does once it has started
    for number in range(rounds + 1):
        ways = list(ways_of().items())
        times = times or {name: [] for name, _ in ways}
        first = number % len(ways)
        for name, way in ways[first:] + ways[:first]:
            started = time.perf_counter()
            await way()
            passed_ms = (time.perf_counter() - started) * 1e3
            if number:
                times[name].append(passed_ms)
    gc.unfreeze()
    return times


def ratio(times: Times, way: str, other: str) -> Spread:
    """How much of the other's time a way takes, round by round."""
    return Spread.of([mine / theirs for mine, theirs in zip(times[way], times[other], strict=True)])
