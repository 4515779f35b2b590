"""The parts of live events, opened and closed with the process: a spool of its own, what dead processes left, the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from feature_store.errors import SpoolFailedError
from feature_store.events.applier import EventApplier
from feature_store.events.event import Event
from feature_store.events.ports import Applied
from feature_store.events.spool import Spool, SpoolRule
from feature_store.events.spool_folder import adopt_orphans, open_spool
from feature_store.redis.events import RedisEvents
from service.errors import StartupError

_LOOK_S = 10.0
_TELL_S = 0.5
_log = logging.getLogger("rankline.events")


class EventObserver(Protocol):
    """Told how the store follows; must not raise or block."""

    def events_applied(self, lags_s: Iterable[float]) -> None: ...
    def spool_depth(self, *, records: int, bytes_: int) -> None: ...
    def histories_reset(self, count: int) -> None: ...
    def applying_failed(self, reason: str) -> None: ...
    def store_rewound(self) -> None: ...


class LiveEvents:
    """Keeps events in this process's spool and applies them (``service.ingestion.ports.Applier``); for one event loop.

    Spools that dead processes left are taken over and drained, too, and stay open: should the store lose what it took from
    them, they still have it.
    """

    def __init__(self, root: Path, rule: SpoolRule, store: RedisEvents, observer: EventObserver) -> None:
        self._root = root
        self._rule = rule
        self._store = store
        self._observer = observer
        self._spools: list[Spool] = []
        self._appliers: list[EventApplier] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._resets_told = 0

    @property
    def backlog(self) -> int:
        """How many events of this process are durable and not applied yet."""
        return self._appliers[0].backlog if self._appliers else 0

    async def submit(self, events: Sequence[Event], timeout_s: float) -> list[Applied] | None:
        """See ``EventApplier.submit``."""
        if not self._appliers:
            raise SpoolFailedError("the spool is not open")
        return await self._appliers[0].submit(events, timeout_s)

    async def start(self) -> None:
        """Open the spool and begin to apply what it holds.

        Raises:
            StartupError: there is no usable spool.
        """
        try:
            self._follow(await open_spool(self._root, self._rule))
        except SpoolFailedError as error:
            raise StartupError(f"RANKLINE_EVENTS__SPOOL_DIRECTORY: {error}") from None
        loop = asyncio.get_running_loop()
        self._tasks += [loop.create_task(self._adopt()), loop.create_task(self._tell())]

    async def close(self) -> None:
        """Stop applying, close the spools and the store's connections; what is not applied yet will be by the next process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for spool in self._spools:
            await spool.close()
        await self._store.close()

    def _follow(self, spool: Spool) -> None:
        applier = EventApplier(spool, self._store, _Applying(self._observer))
        self._spools.append(spool)
        self._appliers.append(applier)
        self._tasks.append(asyncio.get_running_loop().create_task(applier.run()))

    async def _adopt(self) -> None:
        """Not at once: the other workers that start now take their own folders first."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                for spool in await adopt_orphans(self._root, self._rule, self._spools[0]):
                    _log.info("taking over a spool", extra={"spool": spool.directory.name, "pending": spool.pending})
                    self._follow(spool)
            except SpoolFailedError as error:
                _log.error("looking for abandoned spools failed", extra={"reason": str(error)})

    async def _tell(self) -> None:
        while True:
            resets, self._resets_told = self._store.resets - self._resets_told, self._store.resets
            if resets:
                self._observer.histories_reset(resets)
            self._observer.spool_depth(
                records=sum(applier.backlog for applier in self._appliers),
                bytes_=sum(spool.pending_bytes for spool in self._spools),
            )
            await asyncio.sleep(_TELL_S)


class _Applying:
    """Turns what an applier tells into metrics."""

    def __init__(self, observer: EventObserver) -> None:
        self._observer = observer

    def events_applied(self, events: Sequence[Event], fresh: int) -> None:  # noqa: ARG002 - the protocol's
        now = time.time()
        self._observer.events_applied(now - event.received_at for event in events)

    def store_rewound(self) -> None:
        self._observer.store_rewound()

    def applying_failed(self, reason: str) -> None:
        self._observer.applying_failed(reason)
