"""The scorer process's one loop: hear front-ends, take what their doorbells announce, run a batch, answer, again.

One thread does all of it but loading, so a region is let go of only between runs, and nothing needs a lock. Whatever a
front-end does wrong ends its own connection only.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import Callable

from service.scoring.errors import ScoringFailedError
from service.scoring.process import messages
from service.scoring.process.errors import ProtocolError
from service.scoring.process.guest import Guest
from service.scoring.process.region import new_eventfd
from service.scoring.process.runs import Runs
from service.scoring.process.shelf import OpenVersion, Shelf
from service.scoring.process.slot_codec import FAILED, UNKNOWN_MODEL, AnswerHeader, RequestHeader

_MOST_CONNECTIONS = 512
_log = logging.getLogger("rankline.scorer")


class ScorerLoop:
    """``listener``: where front-ends connect. ``supervisor``: whose pings are answered, and whose end is this loop's."""

    def __init__(
        self, listener: socket.socket, supervisor: socket.socket, open_version: OpenVersion, *, batch_rows: int
    ) -> None:
        self._listener = listener
        self._supervisor = supervisor
        self._wake = new_eventfd()
        self._shelf = Shelf(open_version, wake=lambda: os.eventfd_write(self._wake, 1))
        self._runs = Runs(batch_rows)
        self._guests: dict[int, Guest] = {}
        self._strangers: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._over = False

    def run(self) -> None:
        """Until the supervisor is gone."""
        for peer in (self._listener, self._supervisor):
            peer.setblocking(False)
        self._watch(self._listener.fileno(), self._accept)
        self._watch(self._supervisor.fileno(), self._answer_supervisor)
        self._watch(self._wake, self._take_in)
        self._tell_supervisor()
        while not self._over:
            for descriptor, _ in self._poll.poll(0 if self._runs else -1):
                # A callback before this one may have ended this connection.
                if (callback := self._ready.get(descriptor)) is not None:
                    callback()
            if self._runs:
                self._runs.run_next()
        self._shelf.close()

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:  # it left again, or no descriptor is free
            return
        if len(self._strangers) + len(self._guests) >= _MOST_CONNECTIONS:
            peer.close()
            return
        peer.setblocking(False)
        self._strangers[peer.fileno()] = peer
        self._watch(peer.fileno(), lambda: self._meet(peer))

    def _meet(self, peer: socket.socket) -> None:
        """A connection's first message."""
        try:
            heard = messages.receive_at_scorer(peer)
            if heard is None:
                raise ProtocolError("it left without a word")
            message, descriptors = heard
            if not isinstance(message, messages.Hello):
                _close_all(descriptors)
                raise ProtocolError("the first message is no greeting")
            guest = Guest(peer, message, descriptors)
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            _log.warning("a connection was refused", extra={"reason": str(error)})
            self._forget(self._strangers.pop(peer.fileno()))
            return
        del self._strangers[peer.fileno()]
        self._guests[peer.fileno()] = guest
        self._watch(peer.fileno(), lambda: self._hear(guest))
        self._watch(guest.doorbell, lambda: self._collect(guest))
        self._say(guest, messages.Welcome(os.getpid()))
        _log.info("a front-end connected", extra={"front_end": guest.pid})

    def _hear(self, guest: Guest) -> None:
        """A front-end's next message."""
        try:
            heard = messages.receive_at_scorer(guest.peer)
            if heard is None:
                raise ProtocolError("the front-end left")
            message, descriptors = heard
            if descriptors or isinstance(message, messages.Hello):
                _close_all(descriptors)
                raise ProtocolError("a second greeting")
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            self._part(guest, error)
            return
        if isinstance(message, messages.Unload):
            self._shelf.unload(guest, message.handle)
            self._shelf.sweep(list(self._guests.values()))
        elif (ready := self._shelf.load(guest, message)) is not None:
            self._say(guest, ready)
        else:
            self._tell_supervisor()

    def _collect(self, guest: Guest) -> None:
        """Requests that a front-end put into slots."""
        try:
            arrivals = guest.arrivals()
        except ProtocolError as error:
            self._part(guest, error)
            return
        refused = [slot for slot, header in arrivals if not self._queue(guest, slot, header)]
        if refused:
            guest.ring(refused)

    def _queue(self, guest: Guest, slot: int, header: RequestHeader) -> bool:
        """Put one request into its model's line; False when it got its answer instead."""
        model = self._shelf.model(guest, header.handle)
        if model is None:
            answer = AnswerHeader(header.sequence, 0.0, 0.0, UNKNOWN_MODEL, 0)
            guest.put_reason(slot, answer, "the scorer process does not hold this model")
            return False
        try:
            ticket = guest.ticket(slot, header, model.opened.inputs)
            model.opened.check(ticket.request)
        except (ProtocolError, ScoringFailedError) as error:
            guest.put_reason(slot, AnswerHeader(header.sequence, 0.0, 0.0, FAILED, 0), str(error))
            return False
        self._runs.add(model, ticket)
        return True

    def _take_in(self) -> None:
        """Versions that were loaded, or refused, meanwhile."""
        os.eventfd_read(self._wake)
        answers = self._shelf.collect()
        # First of all: a scorer that hangs from here on does not count as loading any more.
        self._tell_supervisor()
        for guest, answer in answers:
            self._say(guest, answer)
        self._shelf.sweep(list(self._guests.values()))

    def _say(self, guest: Guest, message: messages.Message) -> None:
        if not guest.alive:
            return
        try:
            messages.send(guest.peer, message)
        except OSError as error:
            self._part(guest, error)

    def _part(self, guest: Guest, reason: Exception) -> None:
        """A front-end is gone: its slots are neither run nor answered any more, its region is let go of."""
        _log.info("a front-end is gone", extra={"front_end": guest.pid, "reason": str(reason)})
        del self._guests[guest.peer.fileno()]
        self._unwatch(guest.doorbell)
        self._unwatch(guest.peer.fileno())
        guest.close()
        self._shelf.sweep(list(self._guests.values()))

    def _answer_supervisor(self) -> None:
        try:
            while messages.receive_from_supervisor(self._supervisor) is not None:
                self._tell_supervisor()
            self._over = True
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            self._over = True

    def _tell_supervisor(self) -> None:
        try:
            messages.send(self._supervisor, messages.Pong(loading=self._shelf.loading))
        except BlockingIOError:  # it will ask again
            return
        except OSError:
            self._over = True

    def _watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        if descriptor not in self._ready:
            self._poll.register(descriptor, select.EPOLLIN)
        self._ready[descriptor] = callback

    def _unwatch(self, descriptor: int) -> None:
        self._ready.pop(descriptor, None)
        self._poll.unregister(descriptor)

    def _forget(self, stranger: socket.socket) -> None:
        self._unwatch(stranger.fileno())
        stranger.close()


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
