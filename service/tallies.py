"""Counts of the hot path in plain Python, brought into the process's metrics at a scrape and once a second.

A metric's ``labels(...).inc()`` costs microseconds, with several workers more; a request has some twenty. Tallies are written
by the event loop alone and never reset: whoever carries them on, on whatever thread, takes what came since the last time.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from service.histogram_amounts import add_observations, upper_bounds

_REMEMBERED = 1_000
Key = TypeVar("Key")
Value = TypeVar("Value")
Series = tuple[Counter | Gauge | Histogram, tuple[str, ...]]


class Tally(Protocol):
    """Something counted aside."""

    def carry(self) -> None:
        """Bring what came since the last time into the metric."""


class CounterTally:
    """Counts for one series of a counter: add to ``amount``."""

    __slots__ = ("_series", "_told", "amount")

    def __init__(self, series: Counter) -> None:
        self._series = series
        self._told = 0
        self.amount = 0

    def carry(self) -> None:
        """See ``Tally``."""
        amount = self.amount
        if amount != self._told:
            self._series.inc(amount - self._told)
            self._told = amount


class GaugeTally:
    """The latest ``value`` of one series of a gauge."""

    __slots__ = ("_series", "_told", "value")

    def __init__(self, series: Gauge) -> None:
        self._series = series
        self._told: float | None = None
        self.value: float = 0

    def carry(self) -> None:
        """See ``Tally``."""
        value = self.value
        if value != self._told:
            self._series.set(value)
            self._told = value


class HistogramTally:
    """Observations of one series of a histogram."""

    __slots__ = ("_bounds", "_counts", "_series", "_told_counts", "_told_total", "_total")

    def __init__(self, series: Histogram) -> None:
        self._series = series
        self._bounds = upper_bounds(series)
        self._counts = [0] * len(self._bounds)
        self._told_counts = self._counts.copy()
        self._total = 0.0
        self._told_total = 0.0

    def observe(self, amount: float) -> None:
        """Count an amount in the bucket whose upper bound is the first at or above it."""
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._total += amount

    def carry(self) -> None:
        """See ``Tally``."""
        counts, total = self._counts.copy(), self._total
        if counts == self._told_counts:
            return
        added = total - self._told_total
        add_observations(self._series, (now - told for now, told in zip(counts, self._told_counts, strict=True)), added)
        self._told_counts = counts
        self._told_total += added  # as the metric rounds it, so that no error adds up


class Tallies:
    """All tallies of a process, one per series."""

    def __init__(self) -> None:
        self._counters: dict[Series, CounterTally] = {}
        self._gauges: dict[Series, GaugeTally] = {}
        self._histograms: dict[Series, HistogramTally] = {}
        self._carrying = threading.Lock()

    def counter(self, metric: Counter, *labels: str) -> CounterTally:
        """The tally of a counter's series, which exists from now on. ``labels``: the values, in the metric's order."""
        tally = self._counters.get((metric, labels))
        if tally is None:
            tally = self._counters[metric, labels] = CounterTally(metric.labels(*labels) if labels else metric)
        return tally

    def gauge(self, metric: Gauge, *labels: str) -> GaugeTally:
        """The same of a gauge."""
        tally = self._gauges.get((metric, labels))
        if tally is None:
            tally = self._gauges[metric, labels] = GaugeTally(metric.labels(*labels) if labels else metric)
        return tally

    def histogram(self, metric: Histogram, *labels: str) -> HistogramTally:
        """The same of a histogram."""
        tally = self._histograms.get((metric, labels))
        if tally is None:
            tally = self._histograms[metric, labels] = HistogramTally(metric.labels(*labels) if labels else metric)
        return tally

    def carry(self) -> None:
        """Bring everything counted so far into the metrics; from any thread."""
        with self._carrying:
            # Lists made at once: the event loop may open another tally meanwhile.
            opened: list[Tally] = [*self._counters.values(), *self._gauges.values(), *self._histograms.values()]
            for tally in opened:
                tally.carry()


class Remembered(dict[Key, Value]):
    """What ``make`` gives for a key, made once; forgotten when there are too many, which only costs making it again.

    So ``make`` must give the same object, or an equally good one, for a key it is asked for again.
    """

    def __init__(self, make: Callable[[Key], Value]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Key) -> Value:
        if len(self) >= _REMEMBERED:
            self.clear()
        value = self[key] = self._make(key)
        return value


def observe_each(histograms: Mapping[str, HistogramTally], amounts: Mapping[str, float], per: float) -> None:
    """Observe ``amount / per`` in the histogram of each name: one call for what a request has to tell of its stages."""
    for name, amount in amounts.items():
        histogram = histograms[name]
        value = amount / per
        histogram._counts[bisect_left(histogram._bounds, value)] += 1  # ``observe``, without a call for each
        histogram._total += value
