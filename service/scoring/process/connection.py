"""A front-end's connection to the scorer process: made again whenever it ends, with everything loaded again behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from models.manifest import Manifest
from service.scoring.errors import ModelRefusedError, ScorerClosedError
from service.scoring.process import messages
from service.scoring.process.errors import ProtocolError, ScorerLostError
from service.scoring.process.held import Held
from service.scoring.process.mailbox import Mailbox
from service.scoring.process.region import RegionShape
from service.scoring.process.remote_scorer import RemoteScorer
from service.scoring.queue_ports import BatchObserver

_log = logging.getLogger("rankline.scorer")

Result = TypeVar("Result")

_GONE = "the scorer process died; it is being started again"


@dataclass(frozen=True, slots=True)
class ConnectionRule:
    """``shape``: of the region shared with the scorer. ``welcome_s``: how long a new scorer may take to answer.

    ``retry_s`` and ``longest_retry_s``: the wait before another attempt, doubled each time. ``reload_s`` and
    ``longest_reload_s``: the same, before a scorer that refuses what another one served is asked for it again.
    """

    shape: RegionShape = field(default_factory=RegionShape)
    welcome_s: float = 60.0
    retry_s: float = 0.02
    longest_retry_s: float = 1.0
    reload_s: float = 0.5
    longest_reload_s: float = 30.0


class ScorerConnection:
    """Belongs to the event loop that ``start`` was awaited on; only ``load_from_thread`` may be called elsewhere.

    Each connection has a region of its own: an answer that an old scorer still wrote could never be taken for a new one's.
    """

    def __init__(self, address: str, rule: ConnectionRule | None = None) -> None:
        self._address = address
        self._rule = rule or ConnectionRule()
        self._held: dict[int, Held] = {}
        self._handles = 0
        self._peer: socket.socket | None = None
        self._mailbox: Mailbox | None = None
        self._ended: asyncio.Future[None] | None = None
        self._welcomed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def connected(self) -> bool:
        """Whether the scorer attached this front-end's region."""
        return self._welcomed.is_set()

    async def start(self) -> None:
        """Connect, and keep connected until ``close``. Does not wait for the scorer."""
        self._loop = asyncio.get_running_loop()
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End the connection; the scorer lets go of all that was loaded through it. Whoever waits gets ScoringFailedError."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        for held in self._held.values():
            held.forget_retry()
            if held.answer is not None and not held.answer.done():
                held.answer.set_exception(ScorerClosedError("the process is stopping"))
        self._held.clear()

    async def load(
        self, manifest: Manifest, *, max_queue_rows: int, observer: BatchObserver, timeout_s: float
    ) -> tuple[RemoteScorer, messages.Ready]:
        """Have the scorer load an exact version of its repository, checked and warm; it is let go of with the result.

        Raises:
            ModelRefusedError: the scorer refused it, died of it, has another graph of that name, or said nothing in time.
        """
        loop = asyncio.get_running_loop()
        self._handles += 1
        handle, held = self._handles, Held(manifest.name, manifest.version, manifest.digest, loop.create_future())
        self._held[handle] = held
        self._ask_for(handle, held)
        try:
            assert held.answer is not None
            async with asyncio.timeout(timeout_s):
                ready = await held.answer
        except BaseException as error:
            self._let_go(handle)
            if isinstance(error, TimeoutError):
                raise ModelRefusedError(f"{manifest.name}@{manifest.version}: no word from the scorer process") from None
            raise
        finally:
            held.answer = None
        remote = RemoteScorer(
            manifest,
            handle,
            post=self,
            slot_bytes=self._rule.shape.slot_bytes,
            max_queue_rows=max_queue_rows,
            observer=observer,
        )
        weakref.finalize(remote, self._let_go_from_anywhere, handle).atexit = False
        return remote, ready

    def load_from_thread(
        self, manifest: Manifest, *, max_queue_rows: int, observer: BatchObserver, timeout_s: float
    ) -> tuple[RemoteScorer, messages.Ready]:
        """``load``, for a thread that may block. Raises as that does."""
        return self.run_from_thread(self.load(manifest, max_queue_rows=max_queue_rows, observer=observer, timeout_s=timeout_s))

    def run_from_thread(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Have the connection's event loop do something, for a thread that may block. Raises as the work does."""
        if self._loop is None:
            work.close()
            raise ModelRefusedError("the connection to the scorer process was not started")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def mailbox_of(self, handle: int) -> Mailbox | None:
        """Where to write for the model now; None while the scorer, or the model in it, is not there."""
        held = self._held.get(handle)
        return self._mailbox if held is not None and held.ready else None

    def why_absent(self, handle: int) -> str:
        """Why ``mailbox_of`` has nothing for the model now."""
        held = self._held.get(handle)
        if held is not None and held.refusal:
            return f"the scorer process refuses what it served, and is asked again: {held.refusal}"
        if self.connected:
            return "the scorer process was started again and is loading the version"
        return "the scorer process is not there; it is being started again"

    async def _keep(self) -> None:
        """Connect again whenever the connection ended, at once at first."""
        wait_s = self._rule.retry_s
        while True:
            began = time.monotonic()
            try:
                await self._serve_one_scorer()
            except Exception as error:  # whatever it is: without this task the scorer would be lost for good
                _log.warning("no connection to the scorer process", extra={"reason": f"{type(error).__name__}: {error}"})
            if time.monotonic() - began > self._rule.longest_retry_s:
                wait_s = self._rule.retry_s
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, self._rule.longest_retry_s)

    async def _serve_one_scorer(self) -> None:
        """One connection, from its first word to its end."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as ours:  # also what was opened before no descriptor was free for the rest
            peer = ours.enter_context(messages.new_socket())
            mailbox = Mailbox(self._rule.shape)
            ours.callback(mailbox.close)
            ours.callback(self._part, loop, peer, mailbox)
            self._ended = loop.create_future()
            peer.setblocking(False)
            peer.connect(self._address)  # a Unix socket: at once, or not at all
            messages.send(peer, messages.Hello(messages.PROTOCOL, os.getpid()), mailbox.descriptors)
            self._peer = peer
            loop.add_reader(peer.fileno(), self._hear, peer, mailbox)
            loop.add_reader(mailbox.descriptors[2], self._collect, mailbox)
            impatience = loop.call_later(self._rule.welcome_s, self._end_unless_welcomed)
            try:
                await self._ended
            finally:
                impatience.cancel()

    def _part(self, loop: asyncio.AbstractEventLoop, peer: socket.socket, mailbox: Mailbox) -> None:
        """The connection is over: nothing of it may be used again."""
        loop.remove_reader(peer.fileno())
        loop.remove_reader(mailbox.descriptors[2])
        self._peer = self._mailbox = self._ended = None
        self._welcomed.clear()
        mailbox.fail_all(_GONE)
        for held in self._held.values():
            asked = held.asked
            held.scorer_gone()
            if asked and held.answer is not None and not held.answer.done():
                # Perhaps it died of this very version: asking for it again could go on for ever.
                held.answer.set_exception(ScorerLostError("the scorer process died while the version was being loaded"))

    def _hear(self, peer: socket.socket, mailbox: Mailbox) -> None:
        """Everything the scorer said."""
        try:
            while (message := messages.receive_from_scorer(peer)) is not None:
                self._heed(message, mailbox)
            raise ProtocolError("the connection ended")
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            self._end(error)

    def _heed(self, message: messages.FromScorer, mailbox: Mailbox) -> None:
        if isinstance(message, messages.Welcome):
            self._mailbox = mailbox
            self._welcomed.set()
            for handle, held in self._held.items():
                self._ask_for(handle, held)
            return
        if message.handle in self._held:
            self._heed_load(message.handle, self._held[message.handle], message)

    def _heed_load(self, handle: int, held: Held, message: messages.Ready | messages.Refused) -> None:
        if isinstance(message, messages.Ready) and message.digest != held.digest:
            message = messages.Refused(handle, f"{held.name}@{held.version}: the scorer process holds another graph")
        if isinstance(message, messages.Ready):
            held.serves()
            if held.answer is not None and not held.answer.done():
                held.answer.set_result(message)
        elif held.answer is not None and not held.answer.done():
            held.answer.set_exception(ModelRefusedError(message.reason))
        else:
            _log.error("the scorer process refuses what it served", extra={"model": held.name, "reason": message.reason})
            held.ready, held.refusal = False, message.reason
            self._say(messages.Unload(handle))  # or it would keep a graph that is not ours, and never read the files again
            held.ask_later(lambda: self._ask_for(handle, held), self._rule.reload_s, self._rule.longest_reload_s)

    def _collect(self, mailbox: Mailbox) -> None:
        try:
            mailbox.collect()
        except ProtocolError as error:
            self._end(error)

    def _end(self, error: Exception) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    def _end_unless_welcomed(self) -> None:
        if not self._welcomed.is_set():
            self._end(ProtocolError(f"no welcome within {self._rule.welcome_s:g} s"))

    def _ask_for(self, handle: int, held: Held) -> None:
        if self._welcomed.is_set():
            held.asked = True
            self._say(messages.Load(handle, held.name, held.version))

    def _say(self, message: messages.Message) -> None:
        if self._peer is None:
            return
        try:
            messages.send(self._peer, message)
        except OSError as error:  # dead, or it does not read: either way another connection is needed
            self._end(error)

    def _let_go(self, handle: int) -> None:
        held = self._held.pop(handle, None)
        if held is None:
            return
        held.forget_retry()
        if self._welcomed.is_set():
            self._say(messages.Unload(handle))

    def _let_go_from_anywhere(self, handle: int) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the connection with it
            self._loop.call_soon_threadsafe(self._let_go, handle)
