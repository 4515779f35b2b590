"""Keeps one scorer process alive: started once beside the front-ends, by their parent; a dead or hung one is replaced."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from service.scoring.process import messages
from service.scoring.process.errors import ProtocolError, ScorerStartError
from service.scoring.process.settings import HealingRule, ScorerSettings

_BACKLOG = 512
_log = logging.getLogger("rankline.scorer")


class ScorerSupervisor:
    """Owns the listening socket, so that front-ends keep one address and may connect while a scorer is being replaced.

    The scorer ends with this process, even if this one is killed: it sees the end of its supervisor's socket.
    """

    def __init__(self, settings: ScorerSettings, rule: HealingRule | None = None) -> None:
        self._settings = settings
        self._rule = rule or HealingRule()
        # Private to this user: whoever may connect may ask for models and hand over memory.
        self._directory = tempfile.TemporaryDirectory(prefix="rankline-scorer-", ignore_cleanup_errors=True)
        self.address = str(Path(self._directory.name) / "socket")
        self._listener = messages.new_socket()
        self._thread = threading.Thread(target=self._keep, name="scorer-supervisor", daemon=True)
        self._stopping = threading.Event()
        self._spoke = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The running scorer's process; None between two."""
        child = self._child
        return child.pid if child is not None else None

    def start(self, timeout_s: float = 60.0) -> None:
        """Start the scorer and wait until its loop goes round.

        Raises:
            ScorerStartError: it did not within ``timeout_s``; the log has its reason.
        """
        self._listener.bind(self.address)
        self._listener.listen(_BACKLOG)
        self._thread.start()
        if not self._spoke.wait(timeout_s):
            self.stop()
            raise ScorerStartError(f"the scorer process did not come up within {timeout_s:g} s: see the log above")

    def stop(self) -> None:
        """End the scorer and wait for it; nothing happens the second time."""
        self._stopping.set()
        self._end_child()
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _keep(self) -> None:
        """One scorer after another; on a thread of its own."""
        backoff_s = self._rule.backoff_s
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                status = self._run_one()
            except Exception as error:  # no process, no descriptor: perhaps later; nobody else would start a scorer
                status = f"{type(error).__name__}: {error}"
            if self._stopping.is_set():
                return
            self.restarts += 1
            _log.error("the scorer process ended", extra={"reason": status})
            if time.monotonic() - began >= self._rule.calm_s:
                backoff_s = self._rule.backoff_s
            self._stopping.wait(backoff_s)
            backoff_s = min(2 * backoff_s, self._rule.longest_backoff_s)

    def _run_one(self) -> str:
        """Start a scorer and stay with it to its end; how it ended."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with its:
                child = self._child = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "service.scoring.process"),
                        *("--listener", str(self._listener.fileno()), "--supervisor", str(its.fileno())),
                        *("--settings", self._settings.dumps()),
                    ],
                    pass_fds=(self._listener.fileno(), its.fileno()),
                    stdin=subprocess.DEVNULL,
                )
            try:
                ours.setblocking(False)
                reason = self._watch(ours)
            finally:
                child.kill()
                code = child.wait()
                self._child = None
        return reason or f"exit code {code}"

    def _watch(self, link: socket.socket) -> str:
        """Ping until the scorer dies (nothing is returned), has to die (why), or we are stopping."""
        heard_at, patience_s = time.monotonic(), self._rule.load_s
        poll = select.poll()  # not select.select, which fails for descriptors from 1,024 on
        poll.register(link, select.POLLIN)
        while not self._stopping.is_set():
            with contextlib.suppress(OSError):
                messages.send(link, messages.Ping())
            pinged_at = time.monotonic()
            while (wait_s := pinged_at + self._rule.ping_s - time.monotonic()) > 0 and not self._stopping.is_set():
                if not poll.poll(wait_s * 1_000):
                    break
                try:
                    message = messages.receive_at_supervisor(link)
                except (OSError, ProtocolError) as error:
                    return f"unusable: {error}"
                if message is None:
                    return ""
                heard_at = time.monotonic()
                patience_s = self._rule.load_s if message.loading else self._rule.hang_s
                self._spoke.set()
            if time.monotonic() - heard_at > patience_s:
                return f"no word for {patience_s:g} s: killed"
        return "stopped"

    def _end_child(self) -> None:
        child = self._child
        if child is not None:
            child.kill()
