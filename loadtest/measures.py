"""From arrivals to figures. Percentiles are exact (nearest rank over every answer), never interpolated or summarised."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loadtest.arrivals import Arrivals
from loadtest.options import Schedule

STAGES = ("parse", "assign", "fetch", "encode", "queue", "score", "respond")
OUTSIDE = "outside"
_TOTAL = "total"
# k6's error codes for requests without an answer.
_NETWORK_ERRORS = {1050: "timeout", 1211: "connect timeout", 1212: "connection refused", 1220: "connection reset"}
_BUCKETS_PER_DECADE = 10
_SAMPLED_PROBLEMS = 5
_MAX_NAME = 60


@dataclass(frozen=True, slots=True)
class Distribution:
    """Milliseconds of a set of requests."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p99_9: float
    max: float


@dataclass(frozen=True, slots=True)
class HistogramBucket:
    """How many latencies lie above the bucket before and at or below this edge."""

    up_to_ms: float
    count: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What became of the measured arrivals (``dropped``: of the whole run's). Rates are per second of measured time."""

    arrivals: int
    answered_200: int
    errors: dict[str, int]
    error_share: float
    unrecorded: int
    dropped: int
    answers_per_s: float
    candidates_per_s: float
    connections_opened: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the answers said, of those that were read (a sample of the answers with status 200)."""

    answers: int
    degraded: int
    degraded_share: float | None
    degraded_by: dict[str, int]
    faults: dict[str, int]
    models: dict[str, int]
    problems: list[str]
    stages_ms: dict[str, Distribution]


@dataclass(frozen=True, slots=True)
class Measures:
    """All figures of a run. ``ok_ms`` counts answers with status 200, ``all_ms`` every arrival, both from due to end."""

    traffic: Traffic
    ok_ms: Distribution | None
    all_ms: Distribution | None
    http_ms: Distribution | None
    lag_ms: Distribution | None
    histogram: list[HistogramBucket]
    inspection: Inspection
    window_s: tuple[float, float]
    """Start and end of the measured part, seconds of wall time."""


def measure(arrivals: Arrivals, schedule: Schedule, candidate_counts: NDArray[np.int64]) -> Measures:
    """Figures of the measured part: the arrivals due after the warm-up.

    Args:
        arrivals: all that was sent.
        schedule: what was asked.
        candidate_counts: [payloads] candidates in each body, sent in turn.
    """
    measured = measured_part(arrivals, schedule)
    start_us = arrivals.start_us + schedule.first * schedule.period_us
    end_us = start_us + schedule.count * schedule.period_us
    ok = measured.filter(pl.col("status") == 200)
    return Measures(
        traffic=_traffic(arrivals, measured, schedule, _answered_rates(arrivals, candidate_counts, start_us, end_us)),
        ok_ms=distribution(ok["latency_ms"].to_numpy()),
        all_ms=distribution(measured["latency_ms"].to_numpy()),
        http_ms=distribution(ok["http_ms"].to_numpy()),
        lag_ms=distribution(measured["lag_ms"].drop_nulls().to_numpy()),
        histogram=histogram(ok["latency_ms"].to_numpy()),
        inspection=_inspect(arrivals.inspected, measured),
        window_s=(start_us / 1e6, end_us / 1e6),
    )


def measured_part(arrivals: Arrivals, schedule: Schedule) -> pl.DataFrame:
    """The rows of the arrivals that count: those after the warm-up and before the tail."""
    last = schedule.first + schedule.count - 1
    return arrivals.table.filter(pl.col("arrival").is_between(schedule.first, last))


def distribution(values: NDArray[np.float64]) -> Distribution | None:
    """Mean, percentiles by nearest rank (the ceil(q * n)-th smallest value) and maximum; None for no values."""
    if not len(values):
        return None
    ordered = np.sort(values)

    def rank(share: float) -> float:
        return float(ordered[max(0, math.ceil(round(share * len(ordered), 9)) - 1)])

    return Distribution(
        count=len(ordered),
        mean=float(ordered.mean()),
        p50=rank(0.5),
        p90=rank(0.9),
        p95=rank(0.95),
        p99=rank(0.99),
        p99_9=rank(0.999),
        max=float(ordered[-1]),
    )


def histogram(values: NDArray[np.float64]) -> list[HistogramBucket]:
    """Counts in buckets that grow by a tenth of a decade (26 %); empty buckets are left out."""
    steps = np.ceil(np.log10(np.maximum(values, 1e-3)) * _BUCKETS_PER_DECADE).astype(int)
    edges, counts = np.unique(steps, return_counts=True)
    return [
        HistogramBucket(round(float(10 ** (edge / _BUCKETS_PER_DECADE)), 4), int(number))
        for edge, number in zip(edges, counts, strict=True)
    ]


def error_label(status: int, error_code: int) -> str:
    """What to call an arrival that did not end with status 200."""
    return str(status) if status else _NETWORK_ERRORS.get(error_code, f"network error {error_code}")


def _answered_rates(
    arrivals: Arrivals, candidate_counts: NDArray[np.int64], start_us: float, end_us: float
) -> tuple[float, float]:
    """Answers and answered candidates per second, by when answers *ended*: a service that falls behind answers fewer."""
    within = (pl.col("status") == 200) & pl.col("end_us").is_between(start_us, end_us, closed="left")
    ended = arrivals.table.filter(within)["iteration"].to_numpy()
    seconds = (end_us - start_us) / 1e6
    return len(ended) / seconds, float(candidate_counts[ended % len(candidate_counts)].sum()) / seconds


def _traffic(arrivals: Arrivals, measured: pl.DataFrame, schedule: Schedule, rates: tuple[float, float]) -> Traffic:
    outcomes = measured.select("status", "error_code").iter_rows()
    errors = Counter(error_label(status, code) for status, code in outcomes if status != 200)
    return Traffic(
        arrivals=schedule.count,
        answered_200=len(measured) - errors.total(),
        errors=dict(sorted(errors.items())),
        error_share=errors.total() / len(measured) if len(measured) else 0.0,
        unrecorded=max(0, schedule.count - len(measured) - arrivals.dropped),
        dropped=arrivals.dropped,
        answers_per_s=rates[0],
        candidates_per_s=rates[1],
        connections_opened=int(measured["connected"].sum()),
    )


def _inspect(inspected: Mapping[int, Mapping[str, Any]], measured: pl.DataFrame) -> Inspection:
    http_ms = dict(measured.select("iteration", "http_ms").iter_rows())
    read = {iteration: said for iteration, said in inspected.items() if iteration in http_ms}
    answers = {iteration: said for iteration, said in read.items() if "problem" not in said}
    degraded = Counter(_degraded_name(said["degraded"]) for said in answers.values() if said.get("degraded") is not None)
    problems = dict.fromkeys(str(said["problem"]) for said in read.values() if "problem" in said)
    return Inspection(
        answers=len(answers),
        degraded=degraded.total(),
        degraded_share=degraded.total() / len(answers) if answers else None,
        degraded_by=dict(degraded.most_common()),
        faults=dict(Counter(said["fault"] for said in answers.values() if said["fault"]).most_common()),
        models=dict(Counter(_model_name(said["model"]) for said in answers.values() if said.get("model")).most_common()),
        problems=list(problems)[:_SAMPLED_PROBLEMS],
        stages_ms=_stages(answers, http_ms),
    )


def _stages(answers: Mapping[int, Mapping[str, Any]], http_ms: Mapping[int, float]) -> dict[str, Distribution]:
    """Distribution of each stage; ``outside`` is what the client saw beyond the service's own total (or sum of stages)."""
    found: dict[str, list[float]] = {}
    for iteration, said in answers.items():
        timings = _timings(said.get("timings_ms"))
        if timings:
            inside = timings.get(_TOTAL, sum(timings.values()))
            for stage, value in {**timings, OUTSIDE: http_ms[iteration] - inside}.items():
                found.setdefault(stage, []).append(value)
    known = [stage for stage in STAGES if stage in found]
    last = [stage for stage in (_TOTAL, OUTSIDE) if stage in found]
    order = [*known, *sorted(found.keys() - {*known, *last}), *last]
    return {stage: result for stage in order if (result := distribution(np.array(found[stage])))}


def _timings(timings: Any) -> dict[str, float]:
    if not isinstance(timings, dict):
        return {}
    return {
        _name(stage): float(value)
        for stage, value in timings.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _degraded_name(degraded: Any) -> str:
    if isinstance(degraded, dict):
        return _name(f"{degraded.get('level', '?')}: {degraded.get('reason', '?')}")
    return _name(str(degraded))


def _model_name(model: Any) -> str:
    if isinstance(model, dict):
        return _name(f"{model.get('name', '?')}@{model.get('version', '?')}")
    return _name(str(model))


def _name(text: str) -> str:
    """A name that an answer gave, fit for a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:_MAX_NAME])
