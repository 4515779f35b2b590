"""One scorer process at a time, replaced when it dies, and gone when its supervisor is."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.scoring.process.errors import ScorerStartError
from service.scoring.process.settings import HealingRule, ScorerSettings
from service.scoring.process.supervisor import ScorerSupervisor
from tests.service.scoring.process.conftest import HEALING, PATIENCE_S

SETTINGS = ScorerSettings("nowhere", "cpu", 1, log_level="error")


def is_running(process):
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_scorer_is_replaced_each_time_and_stop_ends_the_last():
    supervisor = ScorerSupervisor(SETTINGS, HEALING)
    supervisor.start()
    seen = set()
    for _ in range(3):
        wait_until(lambda: supervisor.pid not in (None, *seen))
        seen.add(supervisor.pid)
        os.kill(supervisor.pid, signal.SIGKILL)
        wait_until(lambda: supervisor.restarts == len(seen))
    supervisor.stop()
    supervisor.stop()
    assert len(seen) == 3
    assert supervisor.pid is None
    assert not any(map(is_running, seen))
    assert not Path(supervisor.address).exists()


MANY_DESCRIPTORS = """
import os, resource, signal, sys, time
from service.scoring.process.settings import HealingRule, ScorerSettings
from service.scoring.process.supervisor import ScorerSupervisor
resource.setrlimit(resource.RLIMIT_NOFILE, (1_500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
rule = HealingRule(ping_s=0.05, hang_s=5.0, backoff_s=0.02, longest_backoff_s=0.05)
with ScorerSupervisor(ScorerSettings(sys.argv[1], "cpu", 1, log_level="error"), rule) as supervisor:
    first = supervisor.pid
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while supervisor.pid in (None, first) and time.monotonic() < deadline:
        time.sleep(0.01)
    second = supervisor.pid
    time.sleep(0.3)
    assert supervisor.pid == second != first, (first, second, supervisor.pid)
"""


def test_a_process_with_more_than_a_thousand_descriptors_still_keeps_its_scorer(tmp_path):
    command = [sys.executable, "-c", MANY_DESCRIPTORS, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 0, ended.stderr


def test_nothing_ends_the_thread_that_keeps_the_scorer(monkeypatch, caplog):
    real, faults = ScorerSupervisor._watch, [ValueError("a fault of our own"), KeyError("another")]

    def watch(supervisor, link):
        if faults:
            raise faults.pop(0)
        return real(supervisor, link)

    monkeypatch.setattr(ScorerSupervisor, "_watch", watch)
    with ScorerSupervisor(SETTINGS, HEALING) as supervisor:
        assert supervisor.restarts == 2
        assert is_running(supervisor.pid)
    assert [record.reason for record in caplog.records[:2]] == ["ValueError: a fault of our own", "KeyError: 'another'"]


def test_a_scorer_that_cannot_start_is_an_error_in_time(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    supervisor = ScorerSupervisor(SETTINGS, HEALING)
    with pytest.raises(ScorerStartError, match="did not come up within"):
        supervisor.start(timeout_s=0.3)
    assert supervisor.restarts > 1
    assert supervisor.pid is None


def test_a_scorer_that_never_speaks_is_killed(monkeypatch, tmp_path):
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))
    supervisor = ScorerSupervisor(SETTINGS, HealingRule(ping_s=0.02, load_s=0.1, backoff_s=0.01))
    with pytest.raises(ScorerStartError):
        supervisor.start(timeout_s=0.6)
    assert supervisor.restarts > 1


def test_the_scorer_ends_with_a_supervisor_that_is_killed(tmp_path):
    code = (
        "import time\n"
        "from service.scoring.process.settings import ScorerSettings\n"
        "from service.scoring.process.supervisor import ScorerSupervisor\n"
        f"s = ScorerSupervisor(ScorerSettings({str(tmp_path)!r}, 'cpu', 1))\n"
        "s.start()\nprint(s.pid, flush=True)\ntime.sleep(60)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # its directory stays behind
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        scorer = int(parent.stdout.readline())
        assert is_running(scorer)
        parent.kill()
    wait_until(lambda: not is_running(scorer))


async def test_ctrl_c_and_hangup_of_the_terminal_do_not_reach_the_scorer(house):
    scorer = house.supervisor.pid
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(scorer, number)
    await asyncio.sleep(0.2)
    assert is_running(scorer)
    assert house.supervisor.pid == scorer


def test_the_scorer_process_reaches_neither_the_web_nor_training():
    code = "import sys, service.scoring.process.__main__ as m; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"fastapi", "uvicorn", "torch", "onnx", "polars", "redis"} & set(modules)
