"""The service as something to be killed and started again on the same port and directories."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.server import Server, ServerFailedError
from loadtest.chaos.errors import StageFailedError


class ServiceProcess:
    """``python -m service serve`` on loopback; a context manager that leaves nothing running."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.port = free_port()
        self._environment = dict(environment)
        self._log = log
        self._server: Server | None = None

    def start(self) -> None:
        """Start; returns when the service is ready.

        Raises:
            StageFailedError: it does not become ready.
        """
        command = [sys.executable, "-m", "service", "serve", "--port", str(self.port)]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, start_new_session=True)
        self._server = Server(process, self.port)
        try:
            self._server.wait_until_ready()
        except ServerFailedError as error:
            said = self._log.read_text(errors="replace")[-2_000:]  # the log goes with the stage
            raise StageFailedError(f"{error}; its log ends with:\n{said}") from None

    def kill(self) -> None:
        """SIGKILL: nothing is drained, flushed or told."""
        if self._server is not None:
            self._server.process.kill()
            self._server.process.wait()

    def get(self, path: str) -> bytes:
        """The body of a GET, such as of ``/metrics``."""
        if self._server is None:
            raise StageFailedError("the service was not started")
        return self._server.get(path)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None and self._server.process.poll() is None:
            try:
                self._server.stop()
            except ServerFailedError:
                if error is None:
                    raise


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
