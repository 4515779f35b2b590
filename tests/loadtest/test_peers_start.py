"""A peer is started on given cores, waited for, checked, and nothing of it is left. Here it is a stand-in."""

import json
import os
import sys

import psutil
import pytest

from loadtest.chaos.service_process import free_port
from loadtest.peers import start
from loadtest.peers.check import check_scores, difference
from loadtest.peers.start import Peer, PeerFailedError, answer_items, install, running_peer

# Answers like a peer; leaves a child in a session of its own that does not listen to SIGTERM, as some do.
SCRIPT = """
import http.server, json, os, signal, subprocess, sys
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
kept = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, start_new_session=True)
kept.stdout.readline()

class Door(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        shift = float(os.environ.get("SHIFT", 0))
        items = [{"id": each, "score": each / 1e3 + shift} for each in asked["candidates"][: asked["top_k"]]]
        content = json.dumps([{"items": items}]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Door).serve_forever()
"""


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A stand-in peer called fake, and a world for it."""
    (tmp_path / "models/deepfm/1").mkdir(parents=True)
    (tmp_path / "models/deepfm/2").mkdir()
    (tmp_path / "ids.json").write_text(json.dumps({"users": [1, 2], "items": list(range(100, 400))}))
    home = tmp_path / "peers"
    (home / "fake/bin").mkdir(parents=True)
    (home / "fake/bin/python").symlink_to(sys.executable)
    monkeypatch.setattr(start, "HOME", home)
    monkeypatch.setattr(start, "_STOP_S", 0.5)
    monkeypatch.setattr(start, "item_table", lambda world, version, directory: world / "items.npz")
    monkeypatch.setitem(start.PEERS, "fake", Peer("fake", ("-c", SCRIPT, "--port")))
    return tmp_path


def test_it_answers_on_its_cores_and_nothing_of_it_is_left(world):
    core = frozenset({max(os.sched_getaffinity(0))})
    before = os.sched_getaffinity(0)
    with running_peer("fake", world, "redis://nowhere", free_port(), core) as pid:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        assert len(family) == 2
        assert [set(each.cpu_affinity()) for each in family] == [set(core)] * 2
        environment = process.environ()
        assert environment["PEER_STORE"] == "redis://nowhere"
        assert environment["PEER_MODEL"].endswith("models/deepfm/2")
    assert os.sched_getaffinity(0) == before
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in family)


def test_what_a_peer_said_is_told_when_it_does_not_start(world, monkeypatch):
    monkeypatch.setitem(start.PEERS, "fake", Peer("fake", ("-c", "import sys; sys.exit('no such flag')", "--port")))
    with (
        pytest.raises(PeerFailedError, match="no such flag"),
        running_peer("fake", world, "redis://nowhere", free_port(), frozenset(os.sched_getaffinity(0))),
    ):
        pass


def test_one_that_is_not_installed_says_how(world):
    with (
        pytest.raises(PeerFailedError, match="make bench-peers-install"),
        running_peer("mosec", world, "redis://nowhere", 1, frozenset({0})),
    ):
        pass


def test_scores_are_compared(world):
    cores = frozenset(os.sched_getaffinity(0))
    ports = [free_port(), free_port()]
    with running_peer("fake", world, "", ports[0], cores):
        with running_peer("fake", world, "", ports[1], cores, settings={"SHIFT": "5e-6"}):
            assert 0 < check_scores(*ports, world, requests=3) < 1e-5
        with (
            running_peer("fake", world, "", ports[1], cores, settings={"SHIFT": "5e-5"}),
            pytest.raises(PeerFailedError, match="differ"),
        ):
            check_scores(*ports, world, requests=3)


def test_other_items_are_no_match():
    assert difference({1: 0.5}, {1: 0.5, 2: 0.1}) == float("inf")
    assert difference({1: 0.5, 2: 0.1}, {2: 0.1, 1: 0.25}) == 0.25
    assert answer_items(b'{"items":[{"id":1,"score":0.5}]}') == answer_items(b'[{"items":[{"id":1,"score":0.5}]}]') == {1: 0.5}


def test_a_package_that_cannot_be_had_is_told(world, monkeypatch):
    python = start.HOME / "fake/bin/python"
    python.unlink()
    python.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(PeerFailedError, match="no such package"):
        install("fake")
