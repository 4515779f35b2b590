"""Starts a peer in its own virtual environment, on given cores, and stops all of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from loadtest.cores import pinned
from loadtest.errors import LoadTestError
from loadtest.peers.features import ITEMS, MODEL, STORE
from loadtest.peers.item_table import item_table

ROOT = Path(__file__).parents[2]
HOME = Path("var/peers")
_START_S = 90.0
_STOP_S = 15.0


class PeerFailedError(LoadTestError):
    """A peer is not installed, did not start or answers something else."""


@dataclass(frozen=True, slots=True)
class Peer:
    """How one is started: the arguments of Python, and what its documentation has set for speed."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The interpreter of its own environment."""
        return ROOT / HOME / self.name / "bin/python"

    @property
    def requirements(self) -> Path:
        """What it needs, with versions."""
        return Path(__file__).with_name(f"requirements-{self.name}.txt")


PEERS = {
    peer.name: peer
    for peer in (
        Peer("mosec", ("-m", "loadtest.peers.mosec_app", "--address", "127.0.0.1", "--timeout", "30000", "--port")),
        Peer("litserve", ("-m", "loadtest.peers.litserve_app", "--port")),
        Peer(
            "bentoml",
            ("-m", "bentoml", "serve", "loadtest.peers.bentoml_app:Ranker", "--host", "127.0.0.1", "--port"),
            {"BENTOML_DO_NOT_TRACK": "True"},
        ),
        Peer(
            "ray_serve",
            ("-c", "from loadtest.peers.ray_serve_app import main; main()", "--port"),
            {
                "RAY_SERVE_ENABLE_HA_PROXY": "1",
                "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
                "RAY_SERVE_HAPROXY_NBTHREAD": "1",
                "RAY_USAGE_STATS_ENABLED": "0",
            },
        ),
    )
}


def is_installed(name: str) -> bool:
    """Whether ``install`` was done."""
    return PEERS[name].python.exists()


def install(name: str) -> None:
    """Make the peer's environment below ``var/peers``, or bring it up to date.

    Raises:
        PeerFailedError: a package cannot be had; what pip said is in the message.
    """
    peer = PEERS[name]
    if not is_installed(name):
        subprocess.run([sys.executable, "-m", "venv", str(ROOT / HOME / name)], check=True)
    command = [str(peer.python), "-m", "pip", "install", "--quiet", "-r", str(peer.requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerFailedError(f"{name} cannot be installed:\n{done.stderr[-1_000:]}")


@contextlib.contextmanager
def running_peer(
    name: str,
    world: Path,
    store_url: str,
    port: int,
    cores: frozenset[int],
    *,
    model: str = "deepfm",
    settings: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """The peer on loopback's ``port``, answering ``POST /rank``; gives its process id. The store must be filled.

    All its processes run on ``cores``. ``settings``: environment variables on top, such as ``PEER_BATCH``.

    Raises:
        PeerFailedError: it is not installed, or does not answer; the end of its log is in the message.
    """
    if not is_installed(name):
        raise PeerFailedError(f"{name} is not installed: make bench-peers-install")
    version = _newest(world / "models" / model)
    named = {MODEL: version, ITEMS: item_table(world, version, ROOT / HOME).resolve()}
    environment = {**os.environ, **PEERS[name].environment, **{key: str(path.resolve()) for key, path in named.items()}}
    environment |= {STORE: store_url, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(settings or {})}
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        with log.open("wb") as output, pinned(cores):
            command = [str(PEERS[name].python), *PEERS[name].arguments, str(port)]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            _wait_until_it_answers(process, port, world, log)
            yield process.pid
        finally:
            _stop(process)


def _newest(versions: Path) -> Path:
    return max((path for path in versions.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, world: Path, log: Path) -> None:
    ids = json.loads((world / "ids.json").read_text())
    body = json.dumps({"user_id": ids["users"][0], "candidates": ids["items"][:10], "top_k": 5}).encode()
    deadline = time.monotonic() + _START_S
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-2_000:]
            raise PeerFailedError(f"the peer does not answer (exit {process.poll()}); its log ends with:\n{said}")
        with contextlib.suppress(OSError, ValueError):
            if len(answer_items(ask(port, body))) == 5:
                return
        time.sleep(0.2)


def ask(port: int, body: bytes) -> bytes:
    """The body of an answer.

    Raises:
        OSError: nothing answers, or not with 200.
    """
    request = urllib.request.Request(f"http://127.0.0.1:{port}/rank", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content
    except urllib.error.URLError as error:
        raise OSError(str(error)) from None


def answer_items(content: bytes) -> dict[int, float]:
    """The ranked items' scores by id, best first; a peer of lists gives a list of one answer."""
    answer = json.loads(content)
    first = answer[0] if isinstance(answer, list) else answer
    return {item["id"]: item["score"] for item in first["items"]}


def _stop(process: subprocess.Popen[bytes]) -> None:
    """All of it: some peers start processes in sessions of their own."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=_STOP_S)
    for each in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(left, timeout=_STOP_S)
    process.wait()
