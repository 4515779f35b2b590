"""The parts of live events, opened and closed with the process: a spool of its own, what dead processes left, the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from feature_store.errors import SpoolFailedError
from feature_store.events.applier import EventApplier
from feature_store.events.event import Event
from feature_store.events.ports import Applied, EventStore
from feature_store.events.spool import Spool
from feature_store.events.spool_folder import SpoolFolders

_log = logging.getLogger("rankline.events")


class EventObserver(Protocol):
    """Told how the store follows; must not raise or block."""

    def events_applied(self, count: int, lags_s: Iterable[float]) -> None: ...
    def spool_depth(self, *, records: int, bytes_: int) -> None: ...
    def spool_opened(self, *, is_open: bool) -> None: ...
    def spool_damaged(self, records: int) -> None: ...
    def events_unrecoverable(self, count: int) -> None: ...
    def histories_reset(self, count: int) -> None: ...
    def applying_failed(self, reason: str) -> None: ...
    def store_rewound(self) -> None: ...


class LiveStore(EventStore, Protocol):
    """What is applied to, and what it tells besides."""

    resets: int
    """How many unreadable histories were replaced."""

    async def close(self) -> None:
        """Close every connection."""


@dataclass(frozen=True, slots=True)
class LiveTiming:
    """In seconds: between looks at the spools, between tellings of the depth; how long a start waits for the spool, and a
    close for what is not applied yet; pauses between tries to open a spool that the disk refuses."""

    look_s: float = 10.0
    tell_s: float = 0.5
    open_s: float = 5.0
    drain_s: float = 3.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 10.0


@dataclass(frozen=True, slots=True)
class _Followed:
    spool: Spool
    applier: EventApplier
    task: asyncio.Task[None]


class LiveEvents:
    """Keeps events in this process's spool and applies them (``service.ingestion.ports.Applier``); for one event loop.

    Without a usable spool it goes on trying to open one, and events are refused meanwhile. Spools that dead processes left are
    taken over and drained, too. They stay open as long as they keep records: should the store lose what it took from them, they
    still have it. Then their folders go.
    """

    def __init__(
        self, folders: SpoolFolders, store: LiveStore, observer: EventObserver, times: LiveTiming | None = None
    ) -> None:
        self._folders = folders
        self._store = store
        self._observer = observer
        self._times = times or LiveTiming()
        self._own: _Followed | None = None
        self._adopted: list[_Followed] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._tried = asyncio.Event()
        self._resets_told = 0

    @property
    def backlog(self) -> int:
        """How many events of this process are durable and not applied yet."""
        return 0 if self._own is None else self._own.applier.backlog

    async def submit(self, events: Sequence[Event], timeout_s: float) -> list[Applied] | None:
        """See ``EventApplier.submit``."""
        if self._own is None:
            raise SpoolFailedError("the spool is not open")
        return await self._own.applier.submit(events, timeout_s)

    async def start(self) -> None:
        """Open the spool and begin to apply what it holds; a disk that refuses, or is slow, is tried on in the background."""
        self._observer.spool_opened(is_open=False)
        loop = asyncio.get_running_loop()
        self._tasks += [loop.create_task(self._keep()), loop.create_task(self._tell())]
        try:
            async with asyncio.timeout(self._times.open_s):
                await self._tried.wait()
        except TimeoutError:
            _log.error("the spool is not open yet; events are refused")

    async def close(self) -> None:
        """Apply what is left if the store takes it soon, then stop, close the spools and the store's connections.

        What is not applied then will be by the next process.
        """
        await self._drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        followed = self._all()
        for each in followed:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in followed), return_exceptions=True)
        await asyncio.gather(*(each.spool.close() for each in followed), return_exceptions=True)
        await self._store.close()

    def _all(self) -> list[_Followed]:
        return [*([] if self._own is None else [self._own]), *self._adopted]

    async def _drain(self) -> None:
        give_up = time.monotonic() + self._times.drain_s
        for each in self._all():
            while each.applier.backlog and not each.applier.failing and time.monotonic() < give_up:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # a short wait, and a seldom one: no event is worth it

    def _follow(self, spool: Spool) -> _Followed:
        if spool.corrupt_records:
            self._observer.spool_damaged(spool.corrupt_records)
        applier = EventApplier(spool, self._store, _Applying(self._observer))
        return _Followed(spool, applier, asyncio.get_running_loop().create_task(applier.run()))

    async def _keep(self) -> None:
        """Open the own spool; then look after it, and after those that others left.

        Not at once: the other workers that start now take their own folders first.
        """
        await self._open()
        trouble = ""
        while True:
            await asyncio.sleep(self._times.look_s)
            try:
                await self._look()
            except Exception as error:  # whatever it is, the next look may go well
                if trouble != (trouble := str(error) or type(error).__name__):
                    _log.error("looking after spools failed", extra={"reason": trouble})
            else:
                trouble = ""

    async def _open(self) -> None:
        pause_s, trouble = self._times.first_pause_s, ""
        while True:
            try:
                self._own = self._follow(await self._folders.open())
            except Exception as error:
                if trouble != (trouble := str(error) or type(error).__name__):
                    _log.error("the spool cannot be opened; events are refused", extra={"reason": trouble})
                self._tried.set()
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._times.longest_pause_s)
            else:
                self._observer.spool_opened(is_open=True)
                _log.info("spool open", extra={"spool": self._own.spool.directory.name, "pending": self._own.spool.pending})
                self._tried.set()
                return

    async def _look(self) -> None:
        for spool in await self._folders.adopt():
            _log.info("taking over a spool", extra={"spool": spool.directory.name, "pending": spool.pending})
            self._adopted.append(self._follow(spool))
        for each in self._all():
            async with asyncio.timeout(self._times.open_s):
                await each.spool.tidy()
        for each in [each for each in self._adopted if each.applier.drained]:
            _log.info("letting go of a spool", extra={"spool": each.spool.directory.name})
            self._adopted.remove(each)
            each.task.cancel()
            await asyncio.gather(each.task, return_exceptions=True)
            await each.spool.remove()

    async def _tell(self) -> None:
        while True:
            resets, self._resets_told = self._store.resets - self._resets_told, self._store.resets
            if resets:
                self._observer.histories_reset(resets)
            self._observer.spool_depth(
                records=sum(each.applier.backlog for each in self._all()),
                bytes_=sum(each.spool.pending_bytes for each in self._all()),
            )
            await asyncio.sleep(self._times.tell_s)


class _Applying:
    """Turns what an applier tells into metrics."""

    def __init__(self, observer: EventObserver) -> None:
        self._observer = observer

    def events_applied(self, events: Sequence[Event], fresh: Sequence[bool]) -> None:
        """An event that the store had already has its lag counted already."""
        now = time.time()
        lags_s = (now - event.received_at for event, is_fresh in zip(events, fresh, strict=True) if is_fresh)
        self._observer.events_applied(len(events), lags_s)

    def store_rewound(self) -> None:
        self._observer.store_rewound()

    def applying_failed(self, reason: str) -> None:
        self._observer.applying_failed(reason)

    def events_unrecoverable(self, count: int) -> None:
        self._observer.events_unrecoverable(count)

    def record_rejected(self) -> None:
        self._observer.spool_damaged(1)
