"""Whom live events tell what becomes of them, and how an applier's telling becomes that."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from feature_store.events.event import Event


class EventObserver(Protocol):
    """Told how the store follows; must not raise or block."""

    def events_applied(self, count: int, lags_s: Iterable[float]) -> None: ...
    def spool_depth(self, *, records: int, bytes_: int) -> None: ...
    def spool_opened(self, *, is_open: bool) -> None: ...
    def spools_foreign(self, *, folders: int, records: int) -> None: ...
    def spool_damaged(self, records: int) -> None: ...
    def events_unrecoverable(self, count: int) -> None: ...
    def histories_reset(self, count: int) -> None: ...
    def applying_failed(self, reason: str) -> None: ...
    def store_rewound(self) -> None: ...


class ToldByApplier:
    """An ``ApplierObserver`` that passes on what it is told to a process's observer."""

    def __init__(self, observer: EventObserver) -> None:
        self._observer = observer

    def batch_applied(self, events: Sequence[Event], fresh: Sequence[bool]) -> None:
        """An event that the store had already has its lag counted already."""
        now = time.time()
        lags_s = (now - event.received_at for event, is_fresh in zip(events, fresh, strict=True) if is_fresh)
        self._observer.events_applied(len(events), lags_s)

    def replay_began(self) -> None:
        self._observer.store_rewound()

    def try_failed(self, reason: str) -> None:
        self._observer.applying_failed(reason)

    def events_lost(self, count: int) -> None:
        self._observer.events_unrecoverable(count)

    def record_rejected(self) -> None:
        self._observer.spool_damaged(1)
