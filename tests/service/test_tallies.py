"""What is counted aside and carried on later reads as if it had been counted at once, on any thread, in any mode."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.histogram_amounts import add_observations, upper_bounds
from service.tallies import Remembered, Tallies
from service.telemetry import Telemetry
from tests.service.direct_telemetry import DirectTelemetry, use

ROOT = Path(__file__).parents[2]


def text_of(telemetry):
    """The scrape, but for what the process is doing meanwhile."""
    lines = telemetry.render().decode().splitlines()
    return [line for line in lines if not line.startswith(("process_", "# HELP process_", "# TYPE process_"))]


@pytest.mark.parametrize("scrapes", [1, 5])
def test_a_scrape_reads_as_if_everything_had_been_counted_at_once(scrapes):
    tallied, direct = Telemetry(), DirectTelemetry()
    for seed in range(scrapes):
        use(tallied, seed)
        use(direct, seed)
        assert text_of(tallied) == text_of(direct)


def test_a_scrape_without_anything_new_changes_nothing():
    telemetry = Telemetry()
    use(telemetry, 1)
    first = text_of(telemetry)
    telemetry.carry()
    assert text_of(telemetry) == first


def worker(directory, kind, what, seed=1):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.service.direct_telemetry", kind, str(seed), what]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=50)
    return sorted(done.stdout.splitlines())


def test_several_workers_read_as_if_everything_had_been_counted_at_once(tmp_path):
    texts = []
    for kind in ("direct", "tallied"):
        (directory := tmp_path / kind).mkdir()
        worker(directory, kind, "leave", seed=2)
        texts.append(worker(directory, kind, "use and render"))
    assert texts[0] == texts[1]
    assert any(line.startswith("rankline_answer_seconds_count") for line in texts[0])


def test_what_a_worker_carried_on_is_shown_by_another(tmp_path):
    worker(tmp_path, "tallied", "leave")
    shown = worker(tmp_path, "tallied", "render")
    assert 'rankline_requests_total{method="POST",route="/rank",status="200"} ' in "\n".join(shown)
    assert "rankline_candidates_count 300.0" in shown


def test_nothing_is_lost_or_told_twice_when_several_threads_carry_while_one_counts():
    registry, tallies = CollectorRegistry(), Tallies()
    counter = tallies.counter(Counter("c", "c", registry=registry))
    histogram = tallies.histogram(Histogram("h", "h", buckets=(1, 2), registry=registry))
    over = threading.Event()

    def carry():
        while not over.is_set():
            tallies.carry()

    threads = [threading.Thread(target=carry) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(20_000):
        counter.amount += 1
        histogram.observe(number % 3)
        if number % 100 == 0:
            tallies.counter(Counter(f"c{number}", "c", registry=registry)).amount += 1
    over.set()
    for thread in threads:
        thread.join()
    tallies.carry()
    text = generate_latest(registry).decode()
    assert "c_total 20000.0" in text
    assert 'h_bucket{le="1.0"} 13334.0' in text
    assert "h_count 20000.0" in text
    assert "h_sum 19999.0" in text
    assert "c19900_total 1.0" in text


def test_a_series_has_one_tally():
    tallies, registry = Tallies(), CollectorRegistry()
    counter, gauge = Counter("c", "c", ["a"], registry=registry), Gauge("g", "g", ["a"], registry=registry)
    assert tallies.counter(counter, "x") is tallies.counter(counter, "x")
    assert tallies.counter(counter, "x") is not tallies.counter(counter, "y")
    assert tallies.gauge(gauge, "x") is tallies.gauge(gauge, "x")


@pytest.mark.parametrize("amounts", [[], [0.5], [1.0, 1.0, 2.0, 2.5, 1e9, float("inf")], [-1.0, 0.0]])
def test_the_inside_of_the_librarys_histogram_is_as_we_think(amounts):
    registries = CollectorRegistry(), CollectorRegistry()
    observed, added = (Histogram("h", "h", ["a"], buckets=(1, 2, 4), registry=each).labels("x") for each in registries)
    bounds = upper_bounds(added)
    assert bounds == (1.0, 2.0, 4.0, float("inf"))
    for amount in amounts:
        observed.observe(amount)
    lower = (-float("inf"), *bounds)
    counts = [sum(below < amount <= bound for amount in amounts) for below, bound in zip(lower, bounds, strict=False)]
    add_observations(added, counts, sum(amounts))
    texts = [[line for line in generate_latest(each).decode().splitlines() if "_created" not in line] for each in registries]
    assert texts[0] == texts[1]


def test_what_is_remembered_is_made_once_and_bounded():
    made = []
    remembered = Remembered[int, int](lambda key: made.append(key) or -key)
    assert [remembered[3], remembered[3], made] == [-3, -3, [3]]
    assert all(remembered[key] == -key and len(remembered) <= 1_000 for key in range(5_000))
