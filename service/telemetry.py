"""Metrics for ``GET /metrics``. Label values come from closed or capped sets: no client can add a series at will."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
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
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.event_telemetry import EventTelemetry
from service.metric_labels import OTHER, CappedLabel
from service.ranking.query import Answer

MULTIPROCESS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_STAGE_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_ROWS = (1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


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
        self.events = EventTelemetry(self.registry)
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

    def answered(self, answer: Answer, candidates: int) -> None:
        """Count one answer (``RankObserver``)."""
        model = self._models(f"{answer.model.name}@{answer.model.version}")
        seconds = sum(answer.timings_ms.values()) / 1e3
        arms = [f"{arm.experiment}/{arm.arm}" for arm in answer.arms] or ["none"]
        for arm in arms:
            self.answer_seconds.labels(model, self._arms(arm)).observe(seconds)
        self.candidates.observe(candidates)
        if answer.degraded is not None:
            self.degraded.labels(answer.degraded.level, self._reasons(answer.degraded.reason)).inc()
        self._count_fields("stale", answer.freshness.stale)
        self._count_fields("refused", answer.freshness.refused)
        if answer.freshness.user_known is None:
            return  # the store was not asked: nothing is known to be missing from it
        self._count_fields("missing", answer.freshness.missing)
        if not answer.freshness.user_known:
            self.unknown.labels("user").inc()
        if answer.freshness.unknown_candidates:
            self.unknown.labels("item").inc(answer.freshness.unknown_candidates)

    def _count_fields(self, status: Literal["missing", "stale", "refused"], fields: Iterable[str]) -> None:
        for field in fields:
            self.missing.labels(self._fields(field), status).inc()

    def stages_done(self, timings_ms: Mapping[str, float]) -> None:
        """Book a whole request's stages."""
        for stage, milliseconds in timings_ms.items():
            self.stage_seconds.labels(stage).observe(milliseconds / 1e3)

    def batch_scored(self, model: str, *, requests: int, rows: int, seconds: float) -> None:
        """Book one scoring call (``BatchObserver``)."""
        label = self._models(model)
        self.batch_rows.labels(label).observe(rows)
        self.batch_requests.labels(label).inc(requests)
        self.batch_seconds.labels(label).observe(seconds)

    def queue_depth(self, model: str, *, rows: int) -> None:
        """Set the rows that wait (``BatchObserver``)."""
        self.queue_rows.labels(self._models(model)).set(rows)

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

    def render(self) -> bytes:
        """The Prometheus text; with several workers, of all of them."""
        if MULTIPROCESS_DIRECTORY not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


class RequestMetrics:
    """Pure ASGI: counts every HTTP request by route template, method and status."""

    _METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure the request; a request that ends without an answer counts as status 0."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        started = time.monotonic()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", OTHER)
            method = scope["method"] if scope["method"] in self._METHODS else OTHER
            self._telemetry.requests.labels(route, method, str(status)).inc()
            self._telemetry.request_seconds.labels(route).observe(time.monotonic() - started)
