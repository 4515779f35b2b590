"""Metrics for ``GET /metrics``. Label values come from closed or capped sets: no client can add a series at will."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from service.event_telemetry import EventTelemetry
from service.exposure_telemetry import ExposureTelemetry
from service.metric_labels import CappedLabel
from service.ranking.query import Answer
from service.request_metrics import RequestMetrics
from service.tallies import CounterTally, GaugeTally, HistogramTally, Remembered, Tallies, observe_each

__all__ = ["MULTIPROCESS_DIRECTORY", "RequestMetrics", "Telemetry"]

MULTIPROCESS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_STAGE_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_ROWS = (1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
NO_ARM = "none"
BatchTallies = tuple[HistogramTally, CounterTally, HistogramTally]


class Telemetry:
    """All metrics of one process; several processes are summed at the scrape."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that no dashboard reads
        self.registry = CollectorRegistry()
        self._models, self._arms, self._fields, self._reasons = (CappedLabel() for _ in range(4))
        self._shown_models: set[tuple[str, str, str, str]] = set()
        self._define_requests()
        self._define_ranking()
        self._define_state()
        self._tallies = Tallies()
        self._open_tallies()
        self.events = EventTelemetry(self.registry)
        self.exposures = ExposureTelemetry(self.registry, self._tallies)
        if MULTIPROCESS_DIRECTORY not in os.environ:
            ProcessCollector(registry=self.registry)

    def _define_requests(self) -> None:
        r = self.registry
        self.requests = Counter("rankline_requests", "HTTP requests", ["route", "method", "status"], registry=r)
        self.request_seconds = Histogram(
            "rankline_request_seconds", "HTTP request duration", ["route"], buckets=_SECONDS, registry=r
        )
        self.stage_seconds = Histogram(
            "rankline_stage_seconds", "Time of a /rank answer by stage", ["stage"], buckets=_STAGE_SECONDS, registry=r
        )

    def _define_ranking(self) -> None:
        r = self.registry
        self.answer_seconds = Histogram(
            "rankline_answer_seconds", "Ranking time by model and arm", ["model", "arm"], buckets=_SECONDS, registry=r
        )
        self.candidates = Histogram("rankline_candidates", "Candidates of a request", buckets=_ROWS, registry=r)
        self.degraded = Counter("rankline_degraded", "Degraded answers", ["level", "reason"], registry=r)
        self.missing = Counter(
            "rankline_missing_features", "Fields without a usable value, by answer", ["field", "status"], registry=r
        )
        self.unknown = Counter("rankline_unknown_entities", "Entities not in the store", ["entity"], registry=r)
        self.batch_rows = Histogram("rankline_batch_rows", "Rows of one scoring call", ["model"], buckets=_ROWS, registry=r)
        self.batch_requests = Counter("rankline_batch_requests", "Requests scored, by model", ["model"], registry=r)
        self.batch_seconds = Histogram(
            "rankline_batch_seconds", "Duration of one scoring call", ["model"], buckets=_STAGE_SECONDS, registry=r
        )
        self.scoring_failures = Counter("rankline_scoring_failures", "Requests a model failed on", ["model"], registry=r)

    def _define_state(self) -> None:
        r = self.registry
        self.queue_rows = Gauge("rankline_queue_rows", "Rows waiting", ["model"], registry=r, multiprocess_mode="livesum")
        self.cache_lookups = Counter("rankline_item_cache_lookups", "Item cache lookups", ["outcome"], registry=r)
        self.cache_changes = Counter("rankline_item_cache_changes", "What became of the cache's items", ["what"], registry=r)
        self.items_in_cache = Gauge(
            "rankline_item_cache_items", "Items in the cache", ["kind"], registry=r, multiprocess_mode="livesum"
        )
        self.model_info = Gauge(
            "rankline_model_info",
            "Loaded model versions",
            ["name", "version", "digest", "provider"],
            registry=r,
            multiprocess_mode="livemax",
        )
        self.plan_generation = Gauge(
            "rankline_plan_generation", "Plan generation in force", registry=r, multiprocess_mode="livemax"
        )
        self.plan_stale = Gauge(
            "rankline_plan_stale", "1 while the last good plan stands in", registry=r, multiprocess_mode="livemax"
        )
        self.reloads = Counter("rankline_reloads", "Plan reloads", ["outcome"], registry=r)

    def _open_tallies(self) -> None:
        """What the hot path writes, found by what it has at hand. On the event loop only."""
        t = self._tallies
        self._request_counts = Remembered[tuple[str, str, int], CounterTally](
            lambda key: t.counter(self.requests, key[0], key[1], str(key[2]))
        )
        self._request_seconds = Remembered[str, HistogramTally](lambda route: t.histogram(self.request_seconds, route))
        self._stages = Remembered[str, HistogramTally](lambda stage: t.histogram(self.stage_seconds, stage))
        self._answers = Remembered[tuple[str, int, str, str], HistogramTally](self._answers_of)
        self._candidates = t.histogram(self.candidates)
        self._missing = Remembered[tuple[str, str], CounterTally](
            lambda key: t.counter(self.missing, self._fields(key[1]), key[0])
        )
        self._batches = Remembered[str, BatchTallies](self._batches_of)
        self._waiting_rows: Callable[[], Mapping[str, int]] = dict
        self._asked: set[str] = set()
        self._queues = Remembered[str, GaugeTally](lambda model: t.gauge(self.queue_rows, self._models(model)))

    def _answers_of(self, key: tuple[str, int, str, str]) -> HistogramTally:
        name, version, experiment, arm = key
        model = self._models(f"{name}@{version}")
        return self._tallies.histogram(self.answer_seconds, model, self._arms(f"{experiment}/{arm}" if experiment else NO_ARM))

    def _batches_of(self, model: str) -> BatchTallies:
        label, t = self._models(model), self._tallies
        return (
            t.histogram(self.batch_rows, label),
            t.counter(self.batch_requests, label),
            t.histogram(self.batch_seconds, label),
        )

    def answered(self, answer: Answer, candidates: int) -> None:
        """Count one answer (``RankObserver``)."""
        model, freshness = answer.model, answer.freshness
        seconds = sum(answer.timings_ms.values()) / 1e3
        for arm in answer.arms:
            self._answers[model.name, model.version, arm.experiment, arm.arm].observe(seconds)
        if not answer.arms:
            self._answers[model.name, model.version, "", ""].observe(seconds)
        self._candidates.observe(candidates)
        if answer.degraded is not None:
            self._tallies.counter(self.degraded, answer.degraded.level, self._reasons(answer.degraded.reason)).amount += 1
        self._count_fields("stale", freshness.stale)
        self._count_fields("refused", freshness.refused)
        if freshness.user_known is None:
            return  # the store was not asked: nothing is known to be missing from it
        self._count_fields("missing", freshness.missing)
        if not freshness.user_known:
            self._tallies.counter(self.unknown, "user").amount += 1
        if freshness.unknown_candidates:
            self._tallies.counter(self.unknown, "item").amount += freshness.unknown_candidates

    def _count_fields(self, status: Literal["missing", "stale", "refused"], fields: Iterable[str]) -> None:
        for field in fields:
            self._missing[status, field].amount += 1

    def stages_done(self, timings_ms: Mapping[str, float]) -> None:
        """Book a whole request's stages."""
        observe_each(self._stages, timings_ms, 1e3)

    def requested(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an HTTP request; route, method and status are of closed sets."""
        self._request_counts[route, method, status].amount += 1
        self._request_seconds[route].observe(seconds)

    def batch_scored(self, model: str, *, requests: int, rows: int, seconds: float) -> None:
        """Book one scoring call (``BatchObserver``)."""
        of_rows, of_requests, of_seconds = self._batches[model]
        of_rows.observe(rows)
        of_requests.amount += requests
        of_seconds.observe(seconds)

    def queue_depth(self, model: str, *, rows: int) -> None:
        """Set the rows that wait (``BatchObserver``)."""
        self._queues[model].value = rows

    def requests_failed(self, model: str, *, requests: int) -> None:
        """Count requests that could not be scored (``BatchObserver``)."""
        self.scoring_failures.labels(self._models(model)).inc(requests)

    def looked_up(self, outcome: str, count: int) -> None:
        """Count item cache lookups by outcome: hit, miss."""
        if count:
            self.cache_lookups.labels(outcome).inc(count)

    def items_changed(self, what: str, count: int) -> None:
        """Count changes of the item cache: items evicted or refreshed; gap: announcements were lost, every item is doubted."""
        if count:
            self.cache_changes.labels(what).inc(count)

    def items_held(self, *, known: int, unknown: int) -> None:
        """Set how many items the cache holds, those included that it knows the store lacks."""
        self.items_in_cache.labels("known").set(known)
        self.items_in_cache.labels("unknown").set(unknown)

    def reloaded(self, outcome: str) -> None:
        """Count a reload: changed, unchanged, refused, new_version or version_refused."""
        self.reloads.labels(outcome).inc()

    def state_changed(self, models: Iterable[tuple[str, str, str, str]], generation: int, *, stale: bool) -> None:
        """Publish the snapshot in force: (name, version, digest, provider) of each model, and the plan's generation."""
        shown = set(models)
        for labels in self._shown_models - shown:
            # Several processes share files that keep every series; 0 says that this one has let go.
            self.model_info.labels(*labels).set(0)
            if MULTIPROCESS_DIRECTORY not in os.environ:
                self.model_info.remove(*labels)
        for labels in shown:
            self.model_info.labels(*labels).set(1)
        self._shown_models = shown
        self.plan_generation.set(generation)
        self.plan_stale.set(int(stale))

    def carry(self) -> None:
        """Bring what the hot path counted into the metrics: of other workers a scrape shows what they brought there last."""
        waiting = self._waiting_rows()
        for model in {**self._queues, **waiting}:
            # A queue that is gone has nothing waiting. One that tells of itself (``queue_depth``) need not be asked.
            if model in waiting or model in self._asked:
                self._queues[model].value = waiting.get(model, 0)
        self._asked = set(waiting)
        self.exposures.look()
        self._tallies.carry()

    def ask_queues(self, waiting_rows: Callable[[], Mapping[str, int]]) -> None:
        """Ask for the rows that wait, by queue, whenever tallies are carried on; from any thread."""
        self._waiting_rows = waiting_rows

    def render(self) -> bytes:
        """The Prometheus text; with several workers, of all of them."""
        self.carry()
        if MULTIPROCESS_DIRECTORY not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
