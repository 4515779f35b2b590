"""k6's samples, read back as one row per arrival.

Latency is counted from the moment an arrival was *due*, not from when it was sent: with the schedule fixed, nothing the
generator or the service does can hide a wait (no coordinated omission, as long as no arrival was dropped).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loadtest.errors import GeneratorFailedError
from loadtest.options import Schedule

_NUMBERS = {"timestamp": pl.Int64, "metric_value": pl.Float64, "status": pl.Int64, "error_code": pl.Int64}
# How far the start that k6 tells (cut to a whole millisecond) may lie before the true one.
_START_CUT_US = 1000.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Every arrival of a run that was sent, warm-up and tail included.

    ``table`` has one row per request, in order, with the columns

    - ``iteration``: its number among those sent, which picks the body; ``arrival``: its place in the schedule, which is
      the same as long as none was dropped,
    - ``status``: 0 without an answer; ``error_code``: k6's, 0 for none,
    - ``due_us``, ``end_us``: wall time in microseconds,
    - ``latency_ms``: from due to the last byte of the answer (or to giving up),
    - ``lag_ms``: from due to sent, the generator's own lateness; null without an answer,
    - ``http_ms``: from sent to the last byte, opening a connection included,
    - ``connected``: whether a connection was opened for it.
    """

    table: pl.DataFrame
    inspected: dict[int, dict[str, Any]]
    """What answers said, by iteration, for those that were read."""
    dropped: int
    start_us: float
    """When arrival 0 was due."""


def read_arrivals(samples_path: Path, schedule: Schedule) -> Arrivals:
    """Read the CSV that k6 wrote.

    Raises:
        GeneratorFailedError: the file is missing, or not of the expected form, or holds no request at all.
    """
    try:
        samples = _scan(samples_path).collect()
        requests = _requests(samples)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise GeneratorFailedError(f"k6's samples in {samples_path} cannot be read: {error}") from None
    starts = _of(samples, "schedule_start")["metric_value"]
    if requests.is_empty() or len(starts) != 1:
        raise GeneratorFailedError(f"k6 sent no request: its log, {samples_path.with_name('k6.log')}, may say why")
    start_us = _start_us(float(starts[0]) * 1e3, requests, schedule)
    dropped_us = _of(samples, "dropped_iterations")["timestamp"].sort().to_numpy()
    return Arrivals(
        table=_timed(requests, dropped_us, start_us, schedule),
        inspected=_inspected(samples),
        dropped=len(dropped_us),
        start_us=start_us,
    )


def _scan(samples_path: Path) -> pl.LazyFrame:
    wanted = [
        "http_req_duration",
        "http_req_blocked",
        "http_req_connecting",
        "dropped_iterations",
        "schedule_start",
        "inspected",
    ]
    rows = pl.scan_csv(samples_path, infer_schema=False, glob=False).filter(pl.col("metric_name").is_in(wanted))
    # "iteration=<number>", and for an inspected answer a blank and what it said.
    metadata = pl.col("metadata").str.strip_prefix("iteration=").str.splitn(" ", 2)
    return rows.select(
        "metric_name",
        *(pl.col(name).cast(dtype) for name, dtype in _NUMBERS.items()),
        metadata.struct.field("field_0").cast(pl.Int64).alias("iteration"),
        metadata.struct.field("field_1").alias("said"),
    )


def _of(samples: pl.DataFrame, metric: str) -> pl.DataFrame:
    return samples.filter(pl.col("metric_name") == metric)


def _requests(samples: pl.DataFrame) -> pl.DataFrame:
    sent = _of(samples, "http_req_duration").select(
        "iteration",
        pl.col("timestamp").alias("end_us"),
        pl.col("metric_value").alias("duration_ms"),
        pl.col("status", "error_code").fill_null(0),
    )
    blocked = _of(samples, "http_req_blocked").select("iteration", pl.col("metric_value").alias("blocked_ms"))
    opened = _of(samples, "http_req_connecting").select("iteration", (pl.col("metric_value") > 0).alias("connected"))
    return sent.join(blocked, on="iteration", validate="1:1").join(opened, on="iteration", validate="1:1").sort("iteration")


def _start_us(told_us: float, requests: pl.DataFrame, schedule: Schedule) -> float:
    """When arrival 0 was due.

    k6 tells the start cut to a millisecond. No request is sent before it is due, so the earliest one, less its place in the
    schedule, bounds the start from above.
    """
    sent_us = pl.col("end_us") - (pl.col("duration_ms") + pl.col("blocked_ms")) * 1e3
    answered = requests.filter(pl.col("status") != 0)
    bounds = answered.select(sent_us - pl.col("iteration") * schedule.period_us).to_series()
    return told_us if bounds.is_empty() else min(max(float(bounds.to_numpy().min()), told_us), told_us + _START_CUT_US)


def _timed(requests: pl.DataFrame, dropped_us: NDArray[np.int64], start_us: float, schedule: Schedule) -> pl.DataFrame:
    timed = requests.with_columns(http_ms=pl.col("duration_ms") + pl.col("blocked_ms"))
    sent_us = timed.select(pl.col("end_us") - pl.col("http_ms") * 1e3).to_series().to_numpy()
    # A dropped arrival takes a place in the schedule, but no number among the iterations.
    timed = timed.with_columns(arrival=pl.col("iteration") + np.searchsorted(dropped_us, sent_us))
    timed = timed.with_columns(due_us=start_us + pl.col("arrival") * schedule.period_us)
    latency = (pl.col("end_us") - pl.col("due_us")) / 1e3
    # The clock of samples counts whole microseconds: a lag of less may come out below zero.
    lag = pl.when(pl.col("status") != 0).then((latency - pl.col("http_ms")).clip(lower_bound=0.0))
    return timed.with_columns(latency_ms=latency, lag_ms=lag).drop("duration_ms", "blocked_ms")


def _inspected(samples: pl.DataFrame) -> dict[int, dict[str, Any]]:
    rows = _of(samples, "inspected").select("iteration", "said").iter_rows()
    return {iteration: json.loads(said) for iteration, said in rows}
