"""Two workers and one scorer process: the answers of a service that scores inline, whatever is killed under load."""

import concurrent.futures
import contextlib
import http.client
import os
import signal
import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from demo.steps import run_command
from tests.end_to_end.line import call, rank, serving, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CALLERS = 6


@pytest.fixture(scope="module")
def divided(line, tmp_path_factory):
    """A service of two workers and a scorer process."""
    directory = tmp_path_factory.mktemp("divided")
    store = directory / "store"
    run_command(["-m", "feature_store", "materialize", str(line.views), "--embedded", str(store)])
    settings = {"RANKLINE_STORE__DIRECTORY": str(store), "RANKLINE_MODELS__SCORER": "process"}
    with serving(line, directory, settings, workers=2) as server:
        yield server
    assert [each for each in psutil.process_iter(["cmdline"]) if str(directory) in " ".join(each.info["cmdline"] or [])] == []


def children(server, mark):
    """Living children of the service whose command line has the mark."""
    found = []
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if mark in " ".join(child.cmdline()):
                found.append(child)
    return found


def scorer_of(server):
    (scorer,) = children(server, "service.scoring.process")
    return scorer


class Load:
    """Callers that ask one after another until the end; what they got, and how long the slowest answer took."""

    def __init__(self, server, bodies):
        self.server, self.bodies = server, bodies
        self.over = threading.Event()
        self.answers, self.broken, self.slowest_s = [], 0, 0.0

    def __enter__(self):
        self._pool = concurrent.futures.ThreadPoolExecutor(CALLERS)
        self._callers = [self._pool.submit(self._call, place) for place in range(CALLERS)]
        return self

    def __exit__(self, *_):
        self.over.set()
        self._pool.shutdown()
        for caller in self._callers:
            caller.result()

    def _call(self, place):
        while not self.over.is_set():
            place += CALLERS
            body = self.bodies[place % len(self.bodies)]
            began = time.monotonic()
            try:
                status, answer, _ = call(self.server, "POST", "/rank", body)
            except (OSError, http.client.HTTPException):
                self.broken += 1
                continue
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.answers.append(SimpleNamespace(status=status, answer=answer, body=body))

    def more(self, whole):
        """Wait for so many further answers that are not degraded."""
        start = len(self.answers)
        wait_until(lambda: sum(each.answer["degraded"] is None for each in self.answers[start:]) >= whole)


def bodies_of(line, **fields):
    return [
        {"user_id": user, "candidates": line.items[place % 7 :] + line.items[: place % 7], **fields}
        for place, user in enumerate(line.users[:24])
    ]


def test_answers_are_those_of_a_service_that_scores_inline(server, divided, line):
    # The other service's histories may hold what other tests clicked: here both rank with the same one.
    same = {"history": line.items[3:9]}
    attention, few = bodies_of(line, explain="attention", **same), bodies_of(line, top_k=3, **same)
    bodies = [*bodies_of(line, **same), *attention[:6], *few[:6]]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: rank(divided, body), bodies))
    for body, found in zip(bodies, answers, strict=True):
        expected = rank(server, body)
        assert (found["degraded"], found["model"]) == (None, expected["model"])
        assert {each["id"]: each["score"] for each in found["items"]} == pytest.approx(
            {each["id"]: each["score"] for each in expected["items"]}, abs=1e-6
        )
        for item, other in zip(found["items"], expected["items"], strict=True):
            assert item.get("attention") == pytest.approx(other.get("attention"), abs=1e-6)


def test_ready_tells_the_scorers_provider_and_workers_load_no_onnx_graph_twice(divided):
    status, report, _ = call(divided, "GET", "/health/ready")
    assert status == 200
    assert {state["provider"] for state in report["models"].values()} == {"cpu"}
    assert scorer_of(divided).is_running()
    assert len(children(divided, "spawn_main")) == 2


def test_a_killed_scorer_costs_order_but_no_answer_and_is_replaced(divided, line):
    with Load(divided, bodies_of(line)) as load:
        for _ in range(2):
            load.more(whole=60)
            before = scorer_of(divided)
            os.kill(before.pid, signal.SIGKILL)
            wait_until(lambda killed=before: children(divided, "service.scoring.process") not in ([], [killed]))
            load.more(whole=60)
    assert (load.broken, {each.status for each in load.answers}) == (0, {200})
    degraded = [each for each in load.answers if each.answer["degraded"] is not None]
    assert degraded
    for each in degraded:
        assert each.answer["degraded"]["reason"] == "scoring_failed"
        assert [item["id"] for item in each.answer["items"]] == each.body["candidates"]
    assert load.slowest_s < 8
    wait_until(lambda: call(divided, "GET", "/health/ready")[0] == 200)


def test_a_killed_worker_takes_only_its_own_requests_along(divided, line):
    scorer = scorer_of(divided).pid
    with Load(divided, bodies_of(line)) as load:
        load.more(whole=60)
        killed = children(divided, "spawn_main")[0]
        os.kill(killed.pid, signal.SIGKILL)
        load.more(whole=60)
        wait_until(lambda: len([child for child in children(divided, "spawn_main") if child.pid != killed.pid]) == 2)
        load.more(whole=60)
    assert {each.status for each in load.answers} == {200}
    assert [each for each in load.answers if each.answer["degraded"] is not None] == []
    assert load.broken <= CALLERS
    assert load.slowest_s < 8
    assert scorer_of(divided).pid == scorer
    wait_until(lambda: call(divided, "GET", "/health/ready")[0] == 200)


def test_sigterm_answers_what_was_taken_before_the_scorer_goes(line, tmp_path):
    store = tmp_path / "store"
    run_command(["-m", "feature_store", "materialize", str(line.views), "--embedded", str(store)])
    settings = {"RANKLINE_STORE__DIRECTORY": str(store), "RANKLINE_MODELS__SCORER": "process"}
    body = {"user_id": line.users[0], "candidates": line.items * 80}
    with serving(line, tmp_path, settings, workers=1) as server:
        rank(server, body)
        scorer = scorer_of(server)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            taken = [pool.submit(call, server, "POST", "/rank", body) for _ in range(8)]
            wait_until(lambda: any(each.done() for each in taken))
            os.kill(scorer.pid, signal.SIGTERM)  # as an init system does to every process of a service
            server.process.send_signal(signal.SIGTERM)
            answered = [each.result() for each in taken if each.exception() is None]
        assert [(status, answer["degraded"]) for status, answer, _ in answered] == [(200, None)] * len(answered)
        assert server.process.wait(30) == 0
    assert not scorer.is_running()
