"""Metrics of the exposure log: what became of the answers offered to it, and what waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.exposure.counts import ExposureCounts
from service.tallies import Tallies


class ExposureTelemetry:
    """The part of a process's metrics that is about exposures; without a log there are no series.

    ``rankline_exposures_total{outcome}``: ``written`` or ``dropped_<reason>``, reasons as in ``ExposureCounts``.
    """

    def __init__(self, registry: CollectorRegistry, tallies: Tallies) -> None:
        self._tallies = tallies
        self.exposures = Counter("rankline_exposures", "Answers by what the exposure log did", ["outcome"], registry=registry)
        self.waiting = Gauge(
            "rankline_exposure_waiting_bytes", "Exposures in memory", ["log"], registry=registry, multiprocess_mode="livesum"
        )
        self.failing = Gauge(
            "rankline_exposure_failing",
            "1 while the disk refuses exposures",
            ["log"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._looking = threading.Lock()
        self._counts: Callable[[], ExposureCounts] | None = None

    def follow(self, counts: Callable[[], ExposureCounts]) -> None:
        """Ask for the counts of a log whenever tallies are carried on; once, on the event loop."""
        for outcome in _outcomes(counts()):
            self._tallies.counter(self.exposures, outcome)  # the series stands at 0 before anything happens
        self._counts = counts

    def look(self) -> None:
        """Bring the log's counts into the tallies; from any thread."""
        if self._counts is None:
            return
        with self._looking:  # a scrape that asked earlier must not write later: counters never fall
            counts = self._counts()
            for outcome, count in _outcomes(counts).items():
                self._tallies.counter(self.exposures, outcome).amount = count
            self._tallies.gauge(self.waiting, "files").value = counts.waiting_bytes
            self._tallies.gauge(self.failing, "files").value = int(counts.is_failing)


def _outcomes(counts: ExposureCounts) -> dict[str, int]:
    return {"written": counts.written, **{f"dropped_{reason}": count for reason, count in counts.dropped.items()}}
