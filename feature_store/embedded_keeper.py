"""Keeps an embedded store running for as long as the process runs: what a supervisor does for a Redis of its own."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from feature_store.embedded import EmbeddedStore
from feature_store.errors import EmbeddedStoreError

_log = logging.getLogger("rankline.embedded")


class EmbeddedStoreKeeper:
    """Starts the store on a thread of its own and starts it again when its server has gone.

    The kernel ends the server with the thread that started it, so that thread lives until ``__exit__``. When the server of
    another process was attached to and that process ends, this one takes over.
    """

    def __init__(self, directory: Path, *, check_every_s: float = 0.5) -> None:
        self._store = EmbeddedStore(directory, any_thread=True)
        self._check_every_s = check_every_s
        self._leave = threading.Event()
        self._started = threading.Event()
        self._failure: EmbeddedStoreError | None = None
        self._thread = threading.Thread(target=self._keep, name="embedded-store", daemon=True)

    @property
    def url(self) -> str:
        """The URL for ``RedisStore.from_url``; the same after every restart."""
        return self._store.url

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            self._store.start()
        except EmbeddedStoreError as error:
            self._failure = error
            return
        finally:
            self._started.set()
        while not self._leave.wait(self._check_every_s):
            if self._store.has_gone():
                self._start_again()
        try:
            self._store.stop()
        except EmbeddedStoreError as error:
            _log.error("embedded store not stopped cleanly", extra={"reason": str(error)})

    def _start_again(self) -> None:
        _log.error("embedded store has gone; starting it again")
        try:
            self._store.start()
        except EmbeddedStoreError as error:
            _log.error("embedded store not started", extra={"reason": str(error)})
