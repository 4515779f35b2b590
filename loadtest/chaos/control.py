"""``wrong-user-control``: the harness must go red on a server that is known to leak. A test that cannot fail proves nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadtest.chaos.errors import StageFailedError
from loadtest.chaos.faults import FaultRule, StoreFaults
from loadtest.chaos.outcome import Outcome, Run
from loadtest.chaos.own_histories import OwnAnswers, OwnHistories, control_values
from loadtest.chaos.rude_clients import Crowd, crowd_of_rude_clients
from loadtest.chaos.stage import Stage, staged
from loadtest.chaos.wrong_user import figures_of

_SERVER = Path(__file__).with_name("control_server.py")
_START_TIMEOUT_S = 20.0
_RED_SHARE = 100 / 20_000
LEAKY_DRIVER = "4.5.3"


def wrong_user_control(run: Run, python: Path, users: OwnHistories, crowd: Crowd) -> Outcome:
    """Run the same clients and faults against the control server, on the leaky driver and on the project's own."""
    if not python.is_file():
        raise StageFailedError(f"{python} is missing: make chaos-control makes it, or give --python")
    with staged(run.workspace) as stage:
        with stage.store.client() as client:
            client.mset(control_values(users))
        leaky = _run(stage, str(python), users, crowd, run.seed)
        own = _run(stage, sys.executable, users, crowd, run.seed)
    wrong, checked = leaky["wrong"], leaky["answers_checked"]
    breaches = []
    if leaky["redis"] != LEAKY_DRIVER:
        breaches.append(f"{python} has redis-py {leaky['redis']}, not {LEAKY_DRIVER}")
    if wrong < _RED_SHARE * max(checked, crowd.answers):
        breaches.append(f"the harness saw only {wrong} wrong of {checked} answers of a server that leaks: it proves nothing")
    claim = f"On a server with redis-py {LEAKY_DRIVER} the harness goes red: at least 100 wrong answers of 20,000."
    notes = [f"the same server with redis-py {own['redis']}: {own['wrong']} wrong of {own['answers_checked']}"]
    return Outcome("wrong-user-control", run.command, run.seed, claim, {"leaky": leaky, "own_driver": own}, breaches, notes)


def _run(stage: Stage, python: str, users: OwnHistories, crowd: Crowd, seed: int) -> dict[str, Any]:
    answers = OwnAnswers(users, ["any"], timeout_ms=1_000)
    with _serving(python, stage) as (port, driver), StoreFaults(stage.store, FaultRule(), seed) as faults:
        tally = asyncio.run(crowd_of_rude_clients(port, answers, crowd, seed))
    return {"redis": driver, **figures_of(tally, faults.counts, users)}


@contextmanager
def _serving(python: str, stage: Stage) -> Iterator[tuple[int, str]]:
    """The control server's port, and the version of its driver."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    log = stage.directory / "control.log"
    with log.open("ab") as file:
        process = subprocess.Popen([python, "-P", str(_SERVER), str(port), stage.store.url], stdout=file, stderr=file)
    try:
        yield port, _driver_version(process, port, log)
    finally:
        process.kill()
        process.wait()


def _driver_version(process: subprocess.Popen[bytes], port: int, log: Path) -> str:
    give_up = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < give_up and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
                return str(json.load(response)["redis"])
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise StageFailedError(f"the control server did not start: {log.read_text(errors='replace')[-1_000:]}")
