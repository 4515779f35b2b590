"""The benchmark counts what came back, waits where it must, and judges ratios the right way round."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from loadtest.bench.bodies import Bodies
from loadtest.bench.report import write_report
from loadtest.bench.targets import Target, targets
from loadtest.bench.traffic import Traffic, TrafficPlan
from tests.loadtest.ranking_server import RankingServer, good_answer, serving


@pytest.fixture
def bodies(tmp_path):
    path = tmp_path / "ids.json"
    path.write_text(json.dumps({"users": [1, 2, 3], "items": list(range(100, 160))}))
    return Bodies(str(path), candidates=7, count=16, top_k=3)


def load(server, bodies, **changes):
    port = int(server.url.rsplit(":", 1)[1])
    plan = TrafficPlan(**{"port": port, "bodies": bodies, "connections": 4, "seconds": 0.6, "warmup_s": 0.1, **changes})
    command = [sys.executable, "-m", "loadtest.bench.traffic"]
    done = subprocess.run(command, input=json.dumps(asdict(plan)).encode(), stdout=subprocess.PIPE, check=True, timeout=30)
    return Traffic(**json.loads(done.stdout))


def test_bodies_are_the_same_for_the_same_seed_and_hold_what_was_asked(bodies):
    requests = bodies.requests()
    assert requests == bodies.requests()
    head, _, body = requests[0].partition(b"\r\n\r\n")
    asked = json.loads(body)
    assert f"Content-Length: {len(body)}".encode() in head
    assert len(set(asked["candidates"])) == 7
    assert asked["user_id"] in (1, 2, 3)
    assert asked["top_k"] == 3


def test_a_closed_loop_counts_every_answer(bodies):
    with serving(RankingServer()) as server:
        run = load(server, bodies, within_ms=10_000.0)
    assert run.failed == run.refused == 0
    assert run.answers == run.good > 20
    assert len(server.requests) >= run.answers
    assert 0 < run.p50_ms <= run.p99_ms <= run.p999_ms


def test_refusals_failures_degraded_and_late_answers_are_no_good_ones(bodies):
    kinds = [(200, None), (429, {}), (500, {}), (200, {"level": "input_order"})]

    def respond(request):
        status, degraded = kinds[request["user_id"] % 4] if request["user_id"] != 2 else kinds[3]
        return status, {**good_answer(request), "degraded": degraded} if status == 200 else {}

    with serving(RankingServer(respond=respond)) as server:
        run = load(server, bodies)
    assert run.refused > 0  # user 1
    assert run.answers > 0  # user 2, degraded
    assert run.whole == run.good == 0


def test_an_answer_later_than_asked_is_not_good(bodies):
    with serving(RankingServer(delay_s=lambda _: 0.05)) as server:
        run = load(server, bodies, within_ms=20.0)
    assert run.answers == run.whole > 0
    assert run.good == 0


def test_open_arrivals_keep_their_rate_and_wait_for_a_connection_on_the_clock(bodies):
    with serving(RankingServer(delay_s=lambda _: 0.1)) as server:
        run = load(server, bodies, connections=1, rate_per_s=100.0, seconds=1.0)
    # One connection answers ten a second: the others were due long before, and their latency says so.
    assert run.answers < 20
    assert run.p99_ms > 300
    assert run.unsent > 50


RESULTS = {
    "runs": {"throughput": {"command": "c", "finished_at": "f", "load_average": 0.1}},
    "machine": {"cores": 2},
    "throughput": [
        {
            "model": "deepfm",
            "rows": 500,
            "generator_busy_max": 0.5,
            "candidates_per_s": {
                name: {"median": 1e6, "min": 9e5, "max": 2e6, "values": [1e6]}
                for name in ("bare textbook", "bare rewritten", "service same graph", "service rewritten")
            },
            "ratios": {
                "service rewritten / bare textbook": {"median": 1.3, "min": 1.2, "max": 1.4},
                "service same graph / bare textbook": {"median": 0.5, "min": 0.4, "max": 0.6},
            },
        }
    ],
    "latency": [
        {
            "model": "din",
            "rows": 50,
            "offered_per_s": 10.0,
            "runs": [{"p50_ms": 1.0, "p99_ms": 3.5, "p999_ms": 5.0, "answers": 99}],
        }
    ],
    "overload": [
        {
            "model": "deepfm",
            "rows": 200,
            "factor": factor,
            "good_per_s": good,
            "good_min": good,
            "good_max": good,
            "peak_per_s": 110.0,
            "refused": 1,
            "p50_ms": 1,
            "p99_ms": 2,
            "generator_busy": 0.1,
        }
        for factor, good in ((1.0, 90.0), (2.0, 100.0), (5.0, 70.0))
    ],
}


def test_ratios_are_judged_against_what_was_asked():
    verdicts = {target.name: (target.measured, target.verdict) for target in targets(RESULTS)}
    assert verdicts["service rewritten / bare textbook, deepfm, N=500"] == (1.3, "must")
    assert verdicts["service same graph / bare same graph, deepfm, N=500"] == (0.5, "missed")
    assert verdicts["p99 / p50 at 70 % load, din, N=50"] == (3.5, "must")
    # Over the capacity that was measured before, although no load reached it.
    assert verdicts["goodput at 2x overload / peak, deepfm, N=200"] == (100 / 110, "must")
    assert verdicts["goodput at 5x overload / peak, deepfm, N=200"] == (70 / 110, "missed")


def test_workers_are_judged_by_the_cores_that_were_left_to_them():
    one = [{"per_s": 100.0, "cores": 1.0, "generator": 0.2, "store": 0.1}]
    two = [{"per_s": 140.0, "cores": 1.5, "generator": 0.35, "store": 0.15}]
    measured = {target.name: target.measured for target in targets({"workers": {"one": one, "two": two}})}
    assert measured["2 workers / 1 worker, as it is"] == pytest.approx(1.4)
    assert measured["2 workers / 1 worker, by the cores left to them"] == pytest.approx(1.4 * 2 / 1.5)


@pytest.mark.parametrize(("measured", "verdict"), [(2.9, "aim"), (3.0, "aim"), (4.3, "must"), (4.31, "missed")])
def test_a_bound_from_above_is_kept_from_below(measured, verdict):
    assert Target("t", 4.3, 3.0, measured, at_most=True).verdict == verdict


def test_the_report_has_the_figures_and_the_pictures(tmp_path):
    write_report(RESULTS, tmp_path)
    text = (tmp_path / "bench.md").read_text()
    assert "| service rewritten / bare textbook, deepfm, N=500 | 1.2 | 1.6 | 1.30 | must |" in text
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["ratios"][0]["verdict"] == "must"
    assert {path.name for path in tmp_path.glob("*.png")} == {"throughput.png", "latency.png", "overload.png"}


def test_arrivals_are_never_early_and_do_not_come_in_clumps(bodies):
    with serving(RankingServer()) as server:
        run = load(server, bodies, connections=16, rate_per_s=400.0, seconds=1.0)
    assert run.p50_ms > 0
    assert 300 < run.answers < 500
    assert run.unsent == 0
