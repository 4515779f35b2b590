"""Metrics of live events: what was answered, what waits for the store, what the store took."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.errors import UnavailableReason
from service.ingestion.received import RefusalReason
from service.metric_labels import OTHER, CappedLabel

_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0)


class EventTelemetry:
    """The part of a process's metrics that is about events (``IntakeObserver``, and the observer of ``LiveEvents``)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self._reasons = CappedLabel()
        self.events = Counter("rankline_events", "Live events answered", ["type", "outcome"], registry=r)
        self.event_refusals = Counter("rankline_event_refusals", "Refused events by first reason", ["reason"], registry=r)
        self.requests_refused = Counter(
            "rankline_event_requests_refused", "Requests of which no event could be kept", ["reason"], registry=r
        )
        self.spool_records = Gauge(
            "rankline_spool_pending_records", "Events kept, not applied yet", registry=r, multiprocess_mode="livesum"
        )
        self.spool_bytes = Gauge(
            "rankline_spool_pending_bytes", "Bytes kept, not applied yet", registry=r, multiprocess_mode="livesum"
        )
        self.spool_open = Gauge(
            "rankline_spool_open", "1 while this process can keep events", registry=r, multiprocess_mode="livemin"
        )
        self.foreign_folders = Gauge(
            "rankline_spool_foreign_folders", "Spool folders of other stores", registry=r, multiprocess_mode="livemax"
        )
        self.foreign_records = Gauge(
            "rankline_spool_foreign_records", "Events kept for other stores", registry=r, multiprocess_mode="livemax"
        )
        self.spool_damaged_records = Counter(
            "rankline_spool_damaged_records", "Spooled records that were damaged, or are no events", registry=r
        )
        self.unrecoverable = Counter(
            "rankline_events_unrecoverable", "Applied events that the store lost and no spool has", registry=r
        )
        self.applied = Counter("rankline_events_applied", "Events that the store took, repeats included", registry=r)
        self.history_resets = Counter("rankline_history_resets", "Unreadable histories that an event replaced", registry=r)
        self.apply_failures = Counter(
            "rankline_event_apply_failures", "Tries to bring events into the store that failed", ["reason"], registry=r
        )
        self.rewinds = Counter(
            "rankline_store_rewinds", "Times the store had lost writes, or may have, and events were applied again", registry=r
        )
        self.event_lag = Histogram(
            "rankline_event_lag_seconds", "From an event's receipt to the store's taking it", buckets=_LAG_SECONDS, registry=r
        )

    def events_accepted(self, type_name: str, *, count: int, duplicates: int) -> None:
        """Count accepted events of one declared type: fresh (or not known yet) ones, and duplicates (``IntakeObserver``)."""
        if count:
            self.events.labels(type_name, "accepted").inc(count)
        if duplicates:
            self.events.labels(type_name, "duplicate").inc(duplicates)

    def event_refused(self, type_name: str | None, reason: RefusalReason) -> None:
        """Count a refused event; without a declared type as ``other`` (``IntakeObserver``)."""
        self.events.labels(type_name or OTHER, "refused").inc()
        self.event_refusals.labels(reason).inc()

    def event_request_refused(self, reason: UnavailableReason) -> None:
        """Count a request that was told to come again, none of its events being kept (``IntakeObserver``)."""
        self.requests_refused.labels(reason).inc()

    def spool_depth(self, *, records: int, bytes_: int) -> None:
        """Set what the spool holds that the store has not taken."""
        self.spool_records.set(records)
        self.spool_bytes.set(bytes_)

    def spool_opened(self, *, is_open: bool) -> None:
        """Set whether there is a spool to keep events in."""
        self.spool_open.set(int(is_open))

    def spools_foreign(self, *, folders: int, records: int) -> None:
        """Set what lies there for other stores than this one; every process sees the same folders."""
        self.foreign_folders.set(folders)
        self.foreign_records.set(records)

    def spool_damaged(self, records: int) -> None:
        """Count spooled records that nobody can use."""
        self.spool_damaged_records.inc(records)

    def events_unrecoverable(self, count: int) -> None:
        """Count applied events that the store lost after the spool had let them go."""
        self.unrecoverable.inc(count)

    def events_applied(self, count: int, lags_s: Iterable[float]) -> None:
        """Count events that the store took, repeats included; ``lags_s``: of the others, the seconds since receipt."""
        self.applied.inc(count)
        for lag_s in lags_s:
            self.event_lag.observe(max(0.0, lag_s))

    def applying_failed(self, reason: str) -> None:
        """Count a try to bring events into the store that failed; it is tried again."""
        self.apply_failures.labels(self._reasons(reason)).inc()

    def store_rewound(self) -> None:
        """Count a store that had lost events."""
        self.rewinds.inc()

    def histories_reset(self, count: int) -> None:
        """Count unreadable histories that an event replaced."""
        self.history_resets.inc(count)
