"""The service as a child process: started, awaited, stopped, with everything it started."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class ServerFailedError(Exception):
    """The service did not become ready, or did not stop."""


class Server:
    """A running service on loopback."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> bytes:
        """The body of a GET."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as response:  # noqa: S310 - loopback
            body: bytes = response.read()
            return body

    def rank(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of a ``POST /rank``."""
        return self.post("/rank", body)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of a POST that must succeed."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            raise ServerFailedError(f"POST {path} answered {error.code}: {error.read().decode(errors='replace')}") from None

    def wait_until_ready(self) -> None:
        """Return once ``/health/ready`` is 200.

        Raises:
            ServerFailedError: the process ended, or time ran out.
        """
        give_up = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                raise ServerFailedError(f"the service ended with {self.process.returncode}")
            try:
                self.get("/health/ready")
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
            else:
                return
        raise ServerFailedError(f"the service was not ready within {READY_TIMEOUT_S:.0f} s")

    def stop(self) -> int:
        """Ask the service to drain and end; gives its exit code.

        Raises:
            ServerFailedError: it did not end in time (it is killed then).
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise ServerFailedError(f"the service did not stop within {STOP_TIMEOUT_S:.0f} s") from None


def _check_port_is_free(port: int) -> None:
    """A stranger on the port would answer in our service's place."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ServerFailedError(f"port {port} is taken; choose another: make demo PORT=...") from None


@contextmanager
def running_server(environment: Mapping[str, str], port: int, workers: int = 1) -> Iterator[Server]:
    """A ready service, stopped at the end. It gets its own session: Ctrl-C reaches it through us, once."""
    _check_port_is_free(port)
    command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--workers", str(workers)]
    process = subprocess.Popen(command, env=dict(environment), start_new_session=True)
    server = Server(process, port)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()
