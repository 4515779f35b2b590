"""The parts of live events, opened and closed with the process: a spool of its own, what dead processes left, the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from feature_store.errors import SpoolFailedError
from feature_store.events.applier import EventApplier
from feature_store.events.event import Event
from feature_store.events.ports import Applied, EventStore
from feature_store.events.spool import Spool
from feature_store.events.spool_folder import SpoolFolders
from service.event_observer import EventObserver, ToldByApplier

_log = logging.getLogger("rankline.events")
_REFUSALS = 3


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


@dataclass(slots=True, eq=False)
class _Followed:
    spool: Spool
    applier: EventApplier
    task: asyncio.Task[None]

    def revive(self) -> None:
        """Start the applier again if it ended, which nothing that is known of makes it do."""
        if self.task.done():
            _log.error("an applier had ended; started again", extra={"spool": self.spool.directory.name})
            self.task = asyncio.get_running_loop().create_task(self.applier.run())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class LiveEvents:
    """Keeps events in this process's spool and applies them (``service.ingestion.ports.Applier``); for one event loop.

    Without a usable spool it goes on trying to open one, and events are refused meanwhile: also after a spool has refused some
    requests in a row, or one before a look, or its folder was deleted; it is closed then. Spools that dead processes left are
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
        self._unusable = asyncio.Event()  # set: the own spool is to be closed, and takes no more events
        self._refusals = 0  # in a row
        self._told_open: bool | None = None
        self._reopen_pause_s = self._times.first_pause_s
        self._resets_told = 0

    @property
    def backlog(self) -> int:
        """How many events of this process are durable and not applied yet."""
        return 0 if self._own is None else self._own.applier.backlog

    async def submit(self, events: Sequence[Event], timeout_s: float) -> list[Applied] | None:
        """See ``EventApplier.submit``."""
        own = self._own
        if own is None or self._unusable.is_set():
            raise SpoolFailedError("the spool is not open")
        try:
            outcomes = await own.applier.submit(events, timeout_s)
        except SpoolFailedError:
            if own is self._own:
                self._count_refusal(own)
            raise
        if own is self._own and not own.spool.is_gone:
            self._refusals, self._reopen_pause_s = 0, self._times.first_pause_s
            self._tell_open(is_open=True)
        return outcomes

    def _count_refusal(self, own: _Followed) -> None:
        self._refusals += 1
        self._tell_open(is_open=False)
        if self._refusals >= _REFUSALS or own.spool.is_gone:
            self._unusable.set()

    def _tell_open(self, *, is_open: bool) -> None:
        if is_open != self._told_open:
            self._told_open = is_open
            self._observer.spool_opened(is_open=is_open)

    async def start(self) -> None:
        """Open the spool and begin to apply what it holds; a disk that refuses, or is slow, is tried on in the background."""
        self._tell_open(is_open=False)
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
        await asyncio.gather(*(each.stop() for each in followed))
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
        applier = EventApplier(spool, self._store, ToldByApplier(self._observer))
        return _Followed(spool, applier, asyncio.get_running_loop().create_task(applier.run()))

    async def _keep(self) -> None:
        """Open the own spool; then look after it, and after those that others left.

        Not at once: the other workers that start now take their own folders first.
        """
        await self._open()
        await self._again_and_again("looking after spools failed", self._look_in_time)

    async def _again_and_again(self, failing: str, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Whatever goes wrong, the next time may go well; the same trouble is told once."""
        trouble = ""
        while True:
            try:
                await call()
            except Exception as error:
                if trouble != (trouble := str(error) or type(error).__name__):
                    _log.error(failing, extra={"reason": trouble})
                await asyncio.sleep(self._times.tell_s)  # whatever the call waits for, never in a hot loop
            else:
                trouble = ""

    async def _look_in_time(self) -> None:
        """Wait for the next look, or for the spool to become unusable."""
        try:
            async with asyncio.timeout(self._times.look_s):
                await self._unusable.wait()
        except TimeoutError:
            pass
        own = self._own
        if own is not None and (self._unusable.is_set() or self._refusals):
            await self._reopen(own)
        await self._look()

    async def _reopen(self, own: _Followed) -> None:
        """Close the spool that refuses, whose events the next opening finds again, and go back to opening."""
        self._unusable.set()
        _log.error("the spool refuses events; opening it anew", extra={"spool": own.spool.directory.name})
        await own.stop()
        await own.spool.close()
        await asyncio.sleep(self._reopen_pause_s)
        self._reopen_pause_s = min(2 * self._reopen_pause_s, self._times.longest_pause_s)
        self._own, self._refusals = None, 0
        self._unusable.clear()
        await self._open()

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
                self._tell_open(is_open=True)
                _log.info("spool open", extra={"spool": self._own.spool.directory.name, "pending": self._own.spool.pending})
                self._tried.set()
                return

    async def _look(self) -> None:
        for each in self._all():
            each.revive()
        for spool in await self._folders.adopt():
            _log.info("taking over a spool", extra={"spool": spool.directory.name, "pending": spool.pending})
            self._adopted.append(self._follow(spool))
        foreign = self._folders.foreign
        self._observer.spools_foreign(folders=foreign.folders, records=foreign.records)
        for each in self._all():
            async with asyncio.timeout(self._times.open_s):
                await each.spool.tidy()
        if self._own is not None and self._own.spool.is_gone:
            self._count_refusal(self._own)
        for each in [each for each in self._adopted if each.applier.drained or each.spool.is_gone]:
            _log.info("letting go of a spool", extra={"spool": each.spool.directory.name})
            self._adopted.remove(each)
            await each.stop()
            await each.spool.remove()

    async def _tell(self) -> None:
        await self._again_and_again("telling of spools failed", self._tell_once)

    async def _tell_once(self) -> None:
        resets, self._resets_told = self._store.resets - self._resets_told, self._store.resets
        if resets:
            self._observer.histories_reset(resets)
        self._observer.spool_depth(
            records=sum(each.applier.backlog for each in self._all()),
            bytes_=sum(each.spool.pending_bytes for each in self._all()),
        )
        await asyncio.sleep(self._times.tell_s)
