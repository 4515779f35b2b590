"""``python -m service serve``: the process around the app. Settings come from ``RANKLINE_*``; see ``service/settings.py``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from pydantic import ValidationError

from feature_store.errors import FeatureStoreError
from service.logs import configure_logs
from service.scoring.cpu import usable_cpus
from service.scoring.process.errors import ScorerStartError
from service.settings import ModelSettings, Settings
from service.telemetry import MULTIPROCESS_DIRECTORY

STORE_URL = "RANKLINE_STORE__URL"
THREADS = "RANKLINE_MODELS__INTRA_OP_THREADS"
SCORER_ADDRESS = "RANKLINE_MODELS__SCORER_ADDRESS"
_BACKLOG = 2_048
_log = logging.getLogger("rankline.serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen and with how many processes; everything else is a setting."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1, help="processes that share the port (default 1)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, then drain and stop what was started here."""
    try:
        settings = Settings()
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            name = "__".join(str(part) for part in each["loc"]).upper()
            print(f"setting RANKLINE_{name}: {each['msg']}", file=sys.stderr)  # noqa: T201 - before logs are configured
        return 2
    configure_logs(settings.log_level)
    _end_by_exception_on_sigterm()
    _share_cpus(arguments.workers)
    try:
        with _store(settings), _metrics_directory(arguments.workers), _scorer(settings, arguments.workers):
            return _serve(arguments, settings)
    except (FeatureStoreError, ScorerStartError) as error:
        _log.error("cannot serve", extra={"reason": str(error)})
        return 1


def _serve(arguments: argparse.Namespace, settings: Settings) -> int:
    config = uvicorn.Config(
        "service.app:create_app",
        factory=True,
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # addresses of clients are neither used nor logged
        http="httptools",
        loop="uvloop",
        ws="none",
        timeout_graceful_shutdown=settings.drain_timeout_s,
        timeout_keep_alive=75,
        backlog=_BACKLOG,
        timeout_worker_healthcheck=30,
    )
    if arguments.workers == 1:
        server = uvicorn.Server(config)
        server.run()
        return 0 if server.started else 1
    from service.workers import Workers

    Workers(config, sockets=[config.bind_socket()]).run()
    return 0


def _end_by_exception_on_sigterm() -> None:
    """Uvicorn raises the signal again after its drain; it must unwind this process, so that what it started is stopped."""

    def leave(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    # Until the app listens to it: a reload that comes while models are loading has nothing to do yet.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _share_cpus(workers: int) -> None:
    """Several workers share the CPUs: each one's ONNX Runtime gets its part, unless a setting says otherwise."""
    if workers > 1 and THREADS not in os.environ:
        os.environ[THREADS] = str(max(1, usable_cpus() // workers))


@contextmanager
def _store(settings: Settings) -> Iterator[None]:
    """Without a store URL, start the embedded Valkey here, once for all workers, and hand its URL down."""
    if settings.store.url is not None:
        yield
        return
    from feature_store.embedded_keeper import EmbeddedStoreKeeper

    with EmbeddedStoreKeeper(settings.store.directory) as store:
        os.environ[STORE_URL] = store.url
        try:
            yield
        finally:
            del os.environ[STORE_URL]


@contextmanager
def _metrics_directory(workers: int) -> Iterator[None]:
    """With several workers, a private directory in which they share their metrics; it must exist before they start."""
    if workers == 1 or MULTIPROCESS_DIRECTORY in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="rankline-metrics-") as directory:
        os.environ[MULTIPROCESS_DIRECTORY] = str(Path(directory))
        try:
            yield
        finally:
            del os.environ[MULTIPROCESS_DIRECTORY]


@contextmanager
def _scorer(settings: Settings, workers: int) -> Iterator[None]:
    """Where one process scores for all workers: start it here, hand its address down, and end it after they have drained."""
    models = settings.models
    if models.scorer_address is not None or not _wants_scorer_process(models, workers):
        yield
        return
    from service.scoring.process.settings import ScorerSettings
    from service.scoring.process.supervisor import ScorerSupervisor

    scorer = ScorerSettings(
        repository=str(models.repository.absolute()),
        provider=models.provider,
        intra_op_threads=models.intra_op_threads,
        batch_rows=models.max_batch_rows,
        collapsed=models.collapsed,
        log_level=settings.log_level,
    )
    with ScorerSupervisor(scorer) as supervisor:
        os.environ[SCORER_ADDRESS] = supervisor.address
        try:
            yield
        finally:
            del os.environ[SCORER_ADDRESS]


def _wants_scorer_process(settings: ModelSettings, workers: int) -> bool:
    """On a CPU workers score for themselves, without a hop; several of them would each fill a GPU with the same tables."""
    if settings.scorer != "auto":
        return settings.scorer == "process"
    if workers == 1 or settings.provider == "cpu":
        return False
    from service.scoring.process.cuda_probe import finds_cuda

    return finds_cuda()
