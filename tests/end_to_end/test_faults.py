"""What a night brings: the store goes and comes back, the queue fills, the process is told to stop."""

import concurrent.futures
import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from demo.steps import run_command
from feature_store.embedded import EmbeddedStore
from tests.end_to_end.line import call, rank, serving, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def processes_of(directory) -> list[str]:
    """Command lines of live processes that name the directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(directory) in line:
                found.append(line)
    return found


def test_without_the_store_answers_are_degraded_and_with_it_whole_again(line, tmp_path):
    body = {"user_id": line.users[0], "candidates": line.items[:5]}
    with EmbeddedStore(tmp_path / "store") as store:
        run_command(["-m", "feature_store", "materialize", str(line.views), "--redis", store.url])
        with serving(line, tmp_path, {"RANKLINE_STORE__URL": store.url, "RANKLINE_STORE__READ_TIMEOUT_MS": "100"}) as server:
            whole = rank(server, body)
            assert whole["degraded"] is None
            store.stop()
            without = rank(server, body)
            assert without["degraded"]["level"] == "default_features"
            assert without["degraded"]["reason"] in {"refused", "disconnected", "timeout", "circuit_open"}
            assert all(item["score"] is not None for item in without["items"])
            ready, report, _ = call(server, "GET", "/health/ready")
            assert ready == 200
            assert report["store"] != "ok"
            store.start()
            wait_until(lambda: rank(server, body)["degraded"] is None)
            assert rank(server, body)["items"] == whole["items"]


def test_a_service_started_without_its_store_serves_degraded_and_heals(line, tmp_path):
    body = {"user_id": line.users[0], "candidates": line.items[:5]}
    store = EmbeddedStore(tmp_path / "store")
    with store:
        url = store.url
        run_command(["-m", "feature_store", "materialize", str(line.views), "--redis", url])
    with serving(line, tmp_path, {"RANKLINE_STORE__URL": url}) as server:
        assert rank(server, body)["degraded"]["level"] == "default_features"
        with store:
            wait_until(lambda: rank(server, body)["degraded"] is None)


def test_a_frozen_store_costs_at_most_its_timeout(line, tmp_path):
    body = {"user_id": line.users[0], "candidates": line.items[:5]}
    with EmbeddedStore(tmp_path / "store") as store:
        run_command(["-m", "feature_store", "materialize", str(line.views), "--redis", store.url])
        with serving(line, tmp_path, {"RANKLINE_STORE__URL": store.url, "RANKLINE_STORE__READ_TIMEOUT_MS": "100"}) as server:
            os.kill(store.pid, signal.SIGSTOP)
            try:
                answers = [rank(server, body) for _ in range(10)]
            finally:
                os.kill(store.pid, signal.SIGCONT)
            assert {answer["degraded"]["level"] for answer in answers} == {"default_features"}
            assert {answer["degraded"]["reason"] for answer in answers} <= {"timeout", "circuit_open"}
            wait_until(lambda: rank(server, body)["degraded"] is None)


def test_the_embedded_store_is_started_again_when_it_was_killed(line, tmp_path):
    store = tmp_path / "store"
    body = {"user_id": line.users[0], "candidates": line.items[:5]}
    run_command(["-m", "feature_store", "materialize", str(line.views), "--embedded", str(store)])
    with serving(line, tmp_path, {"RANKLINE_STORE__DIRECTORY": str(store)}) as server:
        assert rank(server, body)["degraded"] is None
        entries = Path("/proc").glob("[0-9]*/cmdline")
        (entry,) = [each for each in entries if b"valkey-server" in _read(each) and str(store).encode() in _read(each)]
        os.kill(int(entry.parent.name), signal.SIGKILL)
        wait_until(lambda: rank(server, body)["degraded"] is not None)
        wait_until(lambda: rank(server, body)["degraded"] is None)
        assert rank(server, body)["freshness"]["user_known"] is True


def _read(path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def test_a_full_queue_refuses_with_the_time_to_come_back_and_never_fails(line, tmp_path):
    body = {"user_id": line.users[0], "candidates": line.items * 60}
    with serving(line, tmp_path, {"RANKLINE_MODELS__MAX_QUEUE_ROWS": "1"}) as server:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            results = list(pool.map(lambda _: call(server, "POST", "/rank", body), range(96)))
        assert {status for status, _, _ in results} == {200, 429}
        refused = next(result for result in results if result[0] == 429)
        assert int(refused[2]["Retry-After"]) >= 1
        assert refused[1]["type"] == "urn:rankline:problem:overloaded"
        assert rank(server, body)["degraded"] is None


def test_concurrent_requests_get_their_own_answers(server, line):
    bodies = [{"user_id": user, "candidates": line.items[place:] + line.items[:place]} for place, user in enumerate(line.users)]
    alone = [rank(server, body) for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda body: rank(server, body), bodies * 3))
    for body, expected, answer in zip(bodies * 3, alone * 3, together, strict=True):
        assert answer["user_id"] == body["user_id"]
        expected_scores = {item["id"]: item["score"] for item in expected["items"]}
        assert {item["id"]: item["score"] for item in answer["items"]} == pytest.approx(expected_scores, abs=1e-6)


def test_sigterm_answers_what_was_taken_and_leaves_nothing_running(line, tmp_path):
    store = tmp_path / "store"
    body = {"user_id": line.users[0], "candidates": line.items * 80}
    with serving(line, tmp_path, {"RANKLINE_STORE__DIRECTORY": str(store)}) as server:
        rank(server, body)
        assert processes_of(store), "the embedded store runs as a process of its own"
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            taken = [pool.submit(call, server, "POST", "/rank", body) for _ in range(8)]
            wait_until(lambda: any(each.done() for each in taken))
            server.process.send_signal(signal.SIGTERM)
            answered = [each for each in taken if each.exception() is None]
        assert all(each.result()[0] == 200 for each in answered)
        assert server.process.wait(30) == 0
    assert processes_of(store) == []


def test_several_workers_share_port_store_and_metrics(line, tmp_path):
    store = tmp_path / "store"
    run_command(["-m", "feature_store", "materialize", str(line.views), "--embedded", str(store)])
    with serving(line, tmp_path, {"RANKLINE_STORE__DIRECTORY": str(store)}, workers=2) as server:
        bodies = [{"user_id": user, "candidates": line.items[:5]} for user in line.users[:40]]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda body: rank(server, body), bodies))
        assert {answer["degraded"] for answer in answers} == {None}
        assert {answer["generation"] for answer in answers} == {1}
        assert len([line for line in processes_of(store) if "valkey-server" in line]) == 1
        # A worker's own counts are there at its scrape, those of the others within a second.
        wait_until(lambda: "rankline_candidates_count 40.0" in call(server, "GET", "/metrics")[1].decode())
        assert "rankline_plan_generation 1.0" in call(server, "GET", "/metrics")[1].decode()
        plan = tmp_path / "plan.yaml"
        plan.write_text(plan.read_text().replace("5000", "2000"))
        wait_until(lambda: {rank(server, body)["generation"] for body in bodies[:20]} == {2})
    assert processes_of(store) == []


def post(*headers: bytes, body: bytes = b"{}") -> bytes:
    return b"\r\n".join([b"POST /rank HTTP/1.1", b"Host: x", *headers, b"", body])


JSON = b"Content-Type: application/json"
TWO = b"Content-Length: 2"
CHUNKED = b"Transfer-Encoding: chunked"
HOSTILE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    post(JSON, b"Content-Length: 99999999999999999999"),
    post(JSON, b"Content-Length: 5000000"),
    post(JSON, CHUNKED, body=b"zz\r\n{}\r\n0\r\n\r\n"),
    post(JSON, CHUNKED, body=b"2\r\n{}\r\n0\r\n\r\n"),
    post(JSON + b"; charset=\xff", TWO),
    post(JSON, TWO, b"Content-Encoding: gzip"),
    b"POST /rank%00 HTTP/1.1\r\nHost: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    b"POST /admin/experiments/reload HTTP/1.1\r\nHost: ]bad[/rank?\r\nContent-Length: 0\r\n\r\n",
    b"TRACE /rank HTTP/1.1\r\nHost: x\r\n\r\n",
    b"BREW /rank HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /rank HTTP/1.0\r\n\r\n",
]


@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_bytes_never_make_a_5xx(server, line, data):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65_536):
                answer += chunk
    status = answer.split(b" ", 2)[1] if answer else b"none"
    assert not status.startswith((b"5", b"2")), answer[:300]
    assert rank(server, {"user_id": line.users[0], "candidates": line.items[:2]})["degraded"] is None


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413_however_it_comes(server, chunked):
    body = b'{"user_id": 1, "candidates": [' + b"1," * 1_000_000 + b"1]}"
    content = iter([body[place : place + 65_536] for place in range(0, len(body), 65_536)]) if chunked else body
    status, problem, headers = call(server, "POST", "/rank", content)
    assert status == 413
    assert headers["content-type"] == "application/problem+json"
    assert problem["type"] == "urn:rankline:problem:body-too-large"


def test_errors_are_problems_and_repeat_nothing(server):
    secret = "sEcReT-vAlUe"
    cases = [
        ("POST", "/rank", f'{{"user_id": "{secret}\\u0000", "candidates": ["{secret}"], "{secret} x": 1}}'.encode(), 422),
        ("POST", "/rank", secret.encode(), 400),
        ("POST", f"/{secret}", b"{}", 404),
        ("DELETE", "/rank", None, 405),
    ]
    for method, path, body, expected in cases:
        status, problem, headers = call(server, method, path, body)
        assert status == expected
        assert headers["content-type"] == "application/problem+json"
        assert problem["status"] == expected
        assert secret not in str(problem)


def test_metrics_stay_bounded_under_made_up_names(server, line):
    for number in range(300):
        call(server, "GET", f"/made-up-{number}")
        call(server, "POST", "/rank", {"user_id": f"made-up-{number}", "candidates": [f"made-up-{number}"]})
    text = call(server, "GET", "/metrics")[1].decode()
    assert "made-up" not in text
    assert len([row for row in text.splitlines() if not row.startswith("#")]) < 1_000
