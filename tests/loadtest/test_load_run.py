"""Whole runs against a real HTTP server, through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtest.__main__ import main
from loadtest.arrivals import read_arrivals
from loadtest.options import Schedule
from tests.loadtest.ranking_server import TIMINGS, RankingServer, good_answer, serving

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Run:
    """A finished run, as its user finds it."""

    exit_code: int
    result: dict[str, Any]
    folder: Path

    @property
    def traffic(self) -> dict[str, Any]:
        return self.result["measures"]["traffic"]

    @property
    def inspection(self) -> dict[str, Any]:
        return self.result["measures"]["inspection"]

    def slower_than(self, edge_ms: float) -> int:
        """Answers with status 200 in buckets that begin at or above an edge."""
        buckets = self.result["measures"]["histogram"]
        return sum(bucket["count"] for bucket in buckets if bucket["up_to_ms"] / 10**0.1 >= edge_ms)


def load(server: RankingServer, folder: Path, tables: list[str], *more: str) -> Run:
    options = ["--url", server.url, *tables, "--out", str(folder), "--candidates", "20", "--warmup", "0s", *more]
    code = main(options)
    return Run(code, json.loads((folder / "result.json").read_text()), folder)


def sent_bodies(run: Run, arrivals: int) -> list[dict[str, Any]]:
    """The requests of the measured arrivals, from the payload file."""
    bodies = [json.loads(line) for line in (run.folder / "payloads.jsonl").read_text().splitlines()]
    return [bodies[arrival % len(bodies)] for arrival in range(arrivals)]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, tables):
    folder = tmp_path_factory.mktemp("healthy")
    with serving(RankingServer()) as server:
        more = ["--candidates-max", "40", "--top-k", "5", "--inspect-every", "1", "--server-pid", str(os.getpid())]
        more += ["--pin", str(min(os.sched_getaffinity(0)))]
        run = load(server, folder, tables, "--rate", "60", "--duration", "1s", "--warmup", "500ms", "--payloads", "16", *more)
        yield run, server.requests


def test_a_healthy_run_counts_every_measured_arrival(healthy):
    run, _ = healthy
    assert run.exit_code == 0
    assert (run.traffic["arrivals"], run.traffic["answered_200"], run.traffic["errors"]) == (60, 60, {})
    assert (run.traffic["dropped"], run.traffic["unrecorded"]) == (0, 0)
    assert run.result["measures"]["ok_ms"]["count"] == 60
    assert run.result["verdict"]["invalid"] == run.result["verdict"]["missed"] == []


def test_requests_arrive_as_they_were_written_in_turn(healthy):
    run, received = healthy
    probe, *load_requests = received
    written = sent_bodies(run, len(load_requests))
    assert probe == written[0]
    assert Counter(map(json.dumps, load_requests)) == Counter(map(json.dumps, written))
    assert all(type(request["user_id"]) is int and type(request["candidates"][0]) is str for request in load_requests)


def test_answers_are_read_into_stages_models_and_degraded(healthy):
    inspection = healthy[0].inspection
    assert (inspection["answers"], inspection["degraded"], inspection["faults"]) == (60, 0, {})
    assert inspection["models"] == {"din@3": 60}
    assert list(inspection["stages_ms"]) == [*TIMINGS, "outside"]
    assert inspection["stages_ms"]["score"]["p99"] == TIMINGS["score"]


def test_the_result_says_how_it_came_about(healthy):
    result = healthy[0].result
    assert result["machine"]["k6"].startswith("k6 v")
    assert result["options"]["recipe"]["seed"] == 7
    assert result["service_ready"] == {"status": "ready"}
    assert result["machine"]["generator_cores"] == [min(os.sched_getaffinity(0))]
    assert result["cores_busy"]["generator"] > 0
    assert result["cores_busy"]["service"] > 0
    assert "python -m loadtest --url http://127.0.0.1:" in result["command"]


def test_the_report_and_the_plot_are_written_and_the_samples_removed(healthy):
    folder = healthy[0].folder
    names = {path.name for path in folder.iterdir()}
    assert names == {"payloads.jsonl", "result.json", "report.md", "latency.png", "k6.log", "k6-settings.json"}
    report = (folder / "report.md").read_text()
    assert all(
        word in report for word in ("# Load test: valid", "| score | 60 |", "p99.9", "latency.png", "python -m loadtest")
    )
    assert (folder / "latency.png").read_bytes().startswith(PNG)


def faulty(request: dict[str, Any]) -> tuple[int, Any]:
    """A different fault for each remainder of the user id."""
    answer = good_answer(request)
    return {
        0: (429, {"title": "full | <b>`"}),
        1: (503, {}),
        2: (200, answer | {"degraded": {"level": "input_order", "reason": "deadline"}}),
        3: (200, answer | {"items": answer["items"][:-1]}),
        4: (200, answer | {"user_id": request["user_id"] + 1}),
        5: (
            200,
            answer | {"items": [{"id": "item-x"} if request["user_id"] < 30 else answer["items"][1], *answer["items"][1:]]},
        ),
        6: (200, "no json"),
        7: (307, {}),
        9: (200, answer | {"model": {"name": "x|y\x1b <b>", "version": 1}}),
    }.get(request["user_id"] % 10, (200, answer))


FAULTS = {
    3: "wrong number of items",
    4: "answers another user",
    5: "an item that was no candidate, or comes twice",
    6: "not JSON",
}


def test_every_kind_of_failure_is_counted_exactly(tmp_path, tables):
    # Users of remainder 8 never get their answer in time.
    with serving(RankingServer(respond=faulty, delay_s=lambda request: 3.0 * (request["user_id"] % 10 == 8))) as server:
        # The first body is probed before the run and must not be refused: seed 4 begins with another user.
        more = ["--timeout", "1s", "--inspect-every", "1", "--user-skew", "0", "--top-k", "9", "--seed", "4"]
        run = load(server, tmp_path, tables, "--rate", "80", "--duration", "1s", "--max-error-share", "0.01", *more)
    kinds = Counter(request["user_id"] % 10 for request in sent_bodies(run, 80))
    assert run.exit_code == 1
    assert run.traffic["errors"] == {"307": kinds[7], "429": kinds[0], "503": kinds[1], "timeout": kinds[8]}
    assert run.traffic["answered_200"] == 80 - kinds[0] - kinds[1] - kinds[7] - kinds[8]
    assert run.inspection["faults"] == {text: kinds[kind] for kind, text in FAULTS.items()}
    assert run.inspection["degraded_by"] == {"input_order: deadline": kinds[2]}
    assert "x/y? ‹b>@1" in (run.folder / "report.md").read_text()
    assert len(run.result["verdict"]["missed"]) == 1 + len(FAULTS)
    assert min(run.result["measures"]["all_ms"]["max"], 1000) == 1000


def half_of_each_second() -> Callable[[int], float]:
    """Stalls of 500 ms, a second apart."""
    next_stall = [0.0]

    def stall_s(_: int) -> float:
        now = time.monotonic()
        if now < next_stall[0]:
            return 0.0
        next_stall[0] = now + 1.0
        return 0.5

    return stall_s


@pytest.fixture(scope="module")
def stalled(tmp_path_factory, tables):
    with serving(RankingServer(stall_s=half_of_each_second())) as server:
        more = ["--rate", "60", "--duration", "2s", "--vus-max", "120", "--max-p99-ms", "200", "--keep-raw"]
        yield load(server, tmp_path_factory.mktemp("stalled"), tables, *more)


def test_a_stall_shows_in_the_share_of_arrivals_that_were_due_meanwhile(stalled):
    """At constant arrivals half of each second's requests meet the stall; a closed loop shows one a client and second."""
    assert stalled.traffic["answered_200"] == 120
    # Arrivals due in a stall wait evenly for 500 to 0 ms: a quarter of all for more than 250 ms. Far fewer still prove it.
    assert stalled.slower_than(199.0) >= 20
    assert stalled.result["measures"]["ok_ms"]["p99"] > 300
    assert stalled.exit_code == 1


def test_one_answer_in_ten_is_read_spread_over_the_arrivals(stalled):
    read = [arrival for arrival in range(120) if (arrival + 1) * 0x9E3779B1 % 2**32 < 2**32 / 10]
    found = read_arrivals(stalled.folder / "samples.csv", Schedule(60, 0.0, 2.0)).inspected
    assert [iteration for iteration in sorted(found) if iteration < 120] == read
    assert stalled.inspection["answers"] == len(read)
    assert 8 <= len(read) <= 16
    assert len({arrival % 10 for arrival in read}) > 4


def test_dropped_arrivals_make_the_run_invalid(tmp_path, tables, capsys):
    with serving(RankingServer(delay_s=lambda _: 0.4)) as server:
        run = load(server, tmp_path, tables, "--rate", "40", "--duration", "1s", "--vus-max", "4")
    assert run.exit_code == 3
    assert run.traffic["dropped"] > 10
    assert "raise --vus-max" in capsys.readouterr().out
    assert "# Load test: INVALID" in (run.folder / "report.md").read_text()


def test_a_service_that_only_refuses_makes_the_run_invalid_and_is_quoted(tmp_path, tables):
    with serving(RankingServer(respond=lambda _: (429, {"title": "full | <b>`"}))) as server:
        run = load(server, tmp_path, tables, "--rate", "10", "--duration", "1s", "--inspect-every", "1")
    assert run.exit_code == 3
    assert run.traffic["errors"] == {"429": 10}
    assert run.result["measures"]["ok_ms"] is None
    assert run.inspection["problems"] == ['{"title": "full | <b>`"}']


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--url", "http://10.1.2.3:8000"], "10.1.2.3 is not this machine"),
        (["--url", "http://127.0.0.1:9"], "no service answers at http://127.0.0.1:9/rank"),
        (["--users", "nowhere.parquet:id"], "there is no table nowhere.parquet"),
        (["--candidates", "301"], "the items table has 300 distinct ids"),
        (["--server-pid", "2000000000"], "--server-pid 2000000000: there is no such process"),
        (["--out", "/dev/null/x"], "--out /dev/null/x is no folder"),
    ],
)
def test_a_run_that_cannot_be_made_says_why_and_ends_with_2(tmp_path, tables, capsys, change, said):
    code = main(["--url", "http://127.0.0.1:9", *tables, "--out", str(tmp_path), *change])
    assert code == 2
    assert f"error: {said}" in capsys.readouterr().err


def test_a_run_that_is_ended_takes_its_generator_with_it(tmp_path, tables):
    with serving(RankingServer()) as server:
        command = [sys.executable, "-m", "loadtest", "--url", server.url, *tables, "--out", str(tmp_path), "--rate", "5"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while len(server.requests) < 3 and process.poll() is None:
            time.sleep(0.05)
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert [child.name() for child in children if child.is_running()] == []
    assert len(children) == 1
