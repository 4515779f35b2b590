"""Telemetry that counts nothing of the hot path: what all the counting costs is the difference (``RANKLINE_METRICS=false``)."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest

from service.ranking.query import Answer
from service.telemetry import Telemetry


class QuietTelemetry(Telemetry):
    """Shows the process that answers the scrape, and what it was built with; the rest is told and forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = CollectorRegistry()
        ProcessCollector(registry=self._shown)
        PlatformCollector(registry=self._shown)

    def answered(self, answer: Answer, candidates: int) -> None:
        """Count nothing."""

    def stages_done(self, timings_ms: Mapping[str, float]) -> None:
        """Count nothing."""

    def requested(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count nothing."""

    def batch_scored(self, model: str, *, requests: int, rows: int, seconds: float) -> None:
        """Count nothing."""

    def queue_depth(self, model: str, *, rows: int) -> None:
        """Count nothing."""

    def render(self) -> bytes:
        """The Prometheus text of this process; nothing is shared with other workers."""
        return generate_latest(self._shown)
