from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.arrivals import Arrivals
from loadtest.measures import distribution, error_label, histogram, measure
from loadtest.options import Schedule

LATENCIES = st.lists(st.floats(0.001, 1e5), min_size=1, max_size=300)


def slow_percentile(values: list[float], share: Fraction) -> float:
    """The smallest value that at least this share of all values do not exceed."""
    return min(value for value in values if sum(other <= value for other in values) >= share * len(values))


@given(LATENCIES)
def test_percentiles_are_those_of_the_definition(values):
    found = distribution(np.array(values))
    for name, thousandths in (("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990), ("p99_9", 999)):
        assert getattr(found, name) == slow_percentile(values, Fraction(thousandths, 1000))
    assert (found.count, found.max) == (len(values), max(values))
    assert found.mean == pytest.approx(sum(values) / len(values))


def test_no_values_have_no_distribution():
    assert distribution(np.array([])) is None


@given(LATENCIES)
def test_the_histogram_counts_each_latency_once_under_its_edge(values):
    buckets = histogram(np.array(values))
    assert sum(bucket.count for bucket in buckets) == len(values)
    for bucket in buckets:
        low = bucket.up_to_ms / 10**0.1
        assert sum(low * 1.0001 < value <= bucket.up_to_ms * 0.9999 for value in values) <= bucket.count


@pytest.mark.parametrize(
    ("status", "code", "label"),
    [
        (429, 1429, "429"),
        (503, 1503, "503"),
        (0, 1050, "timeout"),
        (0, 1212, "connection refused"),
        (0, 1234, "network error 1234"),
    ],
)
def test_failures_are_named_by_status_or_by_what_the_network_did(status, code, label):
    assert error_label(status, code) == label


def arrivals(latencies, *, statuses=None, inspected=None, dropped=0) -> Arrivals:
    """Ten a second from moment 0; what is sent is sent on time."""
    count = len(latencies)
    due = np.arange(count) * 1e5
    table = pl.DataFrame(
        {
            "iteration": np.arange(count),
            "arrival": np.arange(count),
            "status": statuses or [200] * count,
            "error_code": [0] * count,
            "due_us": due,
            "end_us": (due + np.array(latencies) * 1e3).astype(np.int64),
            "latency_ms": np.array(latencies, dtype=float),
            "lag_ms": np.zeros(count),
            "http_ms": np.array(latencies, dtype=float),
            "connected": [False] * count,
        }
    )
    return Arrivals(table, inspected or {}, dropped, 0.0)


COUNTS = np.array([10, 20])


def test_warm_up_and_tail_are_left_out():
    found = measure(arrivals([900] * 10 + [5] * 10 + [900] * 3), Schedule(10, 1.0, 1.0), COUNTS)
    assert (found.ok_ms.count, found.ok_ms.max) == (10, 5.0)
    assert found.window_s == (1.0, 2.0)


def test_throughput_counts_the_answers_that_ended_in_the_measured_time():
    # The last two answers end after the measured second; the bodies have 10 and 20 candidates in turn.
    found = measure(arrivals([5] * 8 + [500, 500]), Schedule(10, 0.0, 1.0), COUNTS).traffic
    assert (found.answers_per_s, found.candidates_per_s) == (8.0, 120.0)
    assert (found.arrivals, found.answered_200, found.unrecorded) == (10, 10, 0)


def test_failures_are_counted_by_name_and_kept_out_of_the_latency_of_answers():
    found = measure(arrivals([5, 1, 1, 5], statuses=[200, 429, 503, 200]), Schedule(4, 0.0, 1.0), COUNTS)
    assert found.traffic.errors == {"429": 1, "503": 1}
    assert found.traffic.error_share == 0.5
    assert (found.ok_ms.count, found.all_ms.count) == (2, 4)


def test_arrivals_without_a_record_are_counted():
    assert measure(arrivals([5, 5]), Schedule(4, 0.0, 1.0), COUNTS).traffic.unrecorded == 2


def said(**more):
    return {"fault": "", "degraded": None, "timings_ms": None, "model": None} | more


def test_what_answers_said_is_summed_up():
    inspected = {
        0: said(model={"name": "din", "version": 3}, degraded={"level": "input_order", "reason": "deadline"}),
        1: said(model={"name": "din", "version": 3}),
        2: said(fault="wrong number of items", degraded="yes"),
        3: {"problem": "full"},
        9: said(fault="outside the measured part"),
    }
    found = measure(
        arrivals([5] * 4, statuses=[200, 200, 200, 429], inspected=inspected), Schedule(4, 0.0, 1.0), COUNTS
    ).inspection
    assert (found.answers, found.degraded, found.degraded_share) == (3, 2, pytest.approx(2 / 3))
    assert found.degraded_by == {"input_order: deadline": 1, "yes": 1}
    assert found.models == {"din@3": 2}
    assert found.faults == {"wrong number of items": 1}
    assert found.problems == ["full"]


def test_time_outside_the_service_is_the_clients_time_less_the_services_own():
    by_sum = said(timings_ms={"score": 3.0, "parse": 1.0, "custom": 0.5})
    by_total = said(timings_ms={"score": 3.0, "total": 6.0, "broken": "x", "flag": True})
    found = measure(
        arrivals([10.0, 10.0], inspected={0: by_sum, 1: by_total}), Schedule(2, 0.0, 1.0), COUNTS
    ).inspection.stages_ms
    assert list(found) == ["parse", "score", "custom", "total", "outside"]
    assert (found["outside"].p50, found["outside"].max) == (4.0, 5.5)
    assert found["score"].count == 2
