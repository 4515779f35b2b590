from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.command_line import parse_options
from loadtest.cpu import CoresBusy
from loadtest.machine import Machine
from loadtest.measures import Distribution, Inspection, Measures, Traffic
from loadtest.options import Thresholds
from loadtest.verdict import judge

OPTIONS = parse_options(["--url", "http://127.0.0.1", "--users", "u.csv:id", "--items", "i.csv:id", "--rate", "1000"])
MACHINE = Machine("Linux", "a cpu", 2, 4.0, 0.1, [0], [1], "3.11", "k6", {})
FAST = Distribution(count=20_000, mean=5.0, p50=5.0, p90=6.0, p95=7.0, p99=8.0, p99_9=9.0, max=10.0)
GOOD = Measures(
    traffic=Traffic(20_000, 20_000, {}, 0.0, 0, 0, 1000.0, 1e5, 0),
    ok_ms=FAST,
    all_ms=FAST,
    http_ms=FAST,
    lag_ms=replace(FAST, p99=0.4),
    histogram=[],
    inspection=Inspection(2000, 0, 0.0, {}, {}, {}, [], {}),
    window_s=(0.0, 20.0),
)


def judged(measures=GOOD, *, thresholds=OPTIONS.thresholds, busy=None, machine=MACHINE):
    return judge(replace(OPTIONS, thresholds=thresholds), measures, machine, busy)


def traffic(**changes) -> Measures:
    return replace(GOOD, traffic=replace(GOOD.traffic, **changes))


def inspection(**changes) -> Measures:
    return replace(GOOD, inspection=replace(GOOD.inspection, **changes))


def test_a_good_run_has_nothing_to_say():
    verdict = judged(busy=CoresBusy(0.3, 0.5, 0.9))
    assert (verdict.invalid, verdict.missed, verdict.notes, verdict.exit_code, verdict.word) == ([], [], [], 0, "valid")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dropped": 1}, "1 arrivals were dropped, since all 1000 virtual users waited"),
        ({"unrecorded": 2}, "2 of 20000 measured arrivals left no record"),
        ({"answered_200": 0}, "no measured arrival was answered"),
    ],
)
def test_a_run_that_hides_latency_is_invalid(changes, said):
    verdict = judged(traffic(**changes))
    assert (verdict.exit_code, verdict.word) == (3, "INVALID")
    assert said in verdict.invalid[0]


@pytest.mark.parametrize(
    ("thresholds", "measures", "said"),
    [
        (
            Thresholds(7.0, None, None),
            replace(GOOD, all_ms=None),
            "p99 of answers with status 200 is 8.0 ms, asked at most 7 ms",
        ),
        (Thresholds(8.5, None, None), replace(GOOD, all_ms=replace(FAST, p99=5000.0)), "p99 of all arrivals is 5000.0 ms"),
        (Thresholds(None, 0.01, None), traffic(error_share=0.02), "2.00% of the arrivals failed, asked at most 1.00%"),
        (Thresholds(None, None, 0.1), inspection(degraded_share=0.2), "20.00% of the answers are degraded"),
        (Thresholds(None, None, 0.1), inspection(degraded_share=None), "degraded share is not known"),
        (
            Thresholds(None, None, None),
            inspection(faults={"answers another user": 3}),
            "3 of 2000 answers that were read: answers",
        ),
    ],
)
def test_a_missed_threshold_or_a_wrong_answer_fails_the_run(thresholds, measures, said):
    verdict = judged(measures, thresholds=thresholds)
    assert (verdict.exit_code, verdict.word, len(verdict.missed)) == (1, "missed", 1)
    assert said in verdict.missed[0]


def test_thresholds_that_are_just_met_pass():
    measures = replace(traffic(error_share=0.01), inspection=replace(GOOD.inspection, degraded_share=0.1))
    assert judged(measures, thresholds=Thresholds(8.0, 0.01, 0.1)).exit_code == 0


@pytest.mark.parametrize(
    ("measures", "busy", "machine", "said"),
    [
        (traffic(answers_per_s=900.0), None, MACHINE, "it fell behind"),
        (replace(GOOD, ok_ms=replace(FAST, count=9_999)), None, MACHINE, "answers lie beyond p99.9"),
        (replace(GOOD, ok_ms=replace(FAST, count=999)), None, MACHINE, "answers lie beyond p99 and p99.9"),
        (replace(GOOD, lag_ms=FAST), None, MACHINE, "the generator itself was late (p99 8.0 ms"),
        (traffic(connections_opened=300), None, MACHINE, "warm up for at least 1.0 s"),
        (GOOD, CoresBusy(0.5, 1.4, 1.95), MACHINE, "the machine was full (1.95 of 2 cores busy)"),
        (GOOD, None, replace(MACHINE, service_cores=[0, 1]), "may run on the same cores"),
    ],
)
def test_what_figures_must_be_read_with_is_noted_without_failing_the_run(measures, busy, machine, said):
    verdict = judged(measures, busy=busy, machine=machine)
    assert verdict.exit_code == 0
    assert [said in note for note in verdict.notes] == [True]


def test_refusals_are_errors_and_not_also_a_service_that_fell_behind():
    assert judged(traffic(answers_per_s=700.0, error_share=0.3)).notes == []
