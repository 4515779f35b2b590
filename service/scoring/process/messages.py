"""The control channel: small JSON messages over a Unix socket that keeps message borders, descriptors beside the first.

The end of a connection is the message that its other side died. Slots never go this way.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from service.scoring.process.errors import ProtocolError

PROTOCOL = 1
_LARGEST = 65_536
_LARGEST_REASON = 4_000
_DESCRIPTORS = 3


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of all messages."""


class Hello(Message, frozen=True):
    """A front-end's first words; with it come the region and the doorbells of requests and of answers."""

    protocol: int
    pid: int


class Welcome(Message, frozen=True):
    """The scorer attached the region."""

    pid: int


class Load(Message, frozen=True):
    """Load an exact version of the scorer's repository; ``handle`` is the front-end's number for it, in slots too."""

    handle: int
    name: str
    version: int


class Unload(Message, frozen=True):
    """The front-end needs it no more."""

    handle: int


class Ready(Message, frozen=True):
    """The version serves; ``digest`` is of its graph."""

    handle: int
    provider: str
    digest: str


class Refused(Message, frozen=True):
    """The version cannot serve."""

    handle: int
    reason: str


class Ping(Message, frozen=True):
    """The supervisor asks whether the scorer's loop still goes round."""


class Pong(Message, frozen=True):
    """It does; ``loading`` while a version is being loaded, which may hold the interpreter lock for long."""

    loading: bool


ToScorer = Hello | Load | Unload
FromScorer = Welcome | Ready | Refused
ToSupervisor = Pong
FromSupervisor = Ping

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_to_scorer: msgspec.json.Decoder[ToScorer] = msgspec.json.Decoder(ToScorer)
_from_scorer: msgspec.json.Decoder[FromScorer] = msgspec.json.Decoder(FromScorer)
_to_supervisor: msgspec.json.Decoder[Pong] = msgspec.json.Decoder(Pong)
_from_supervisor: msgspec.json.Decoder[Ping] = msgspec.json.Decoder(Ping)


def new_socket() -> socket.socket:
    """An unconnected socket of the control channel."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def refused(handle: int, reason: str) -> Refused:
    """A refusal that fits one message."""
    return Refused(handle, reason[:_LARGEST_REASON])


def send(peer: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message. Raises OSError when the peer is gone, or reads so little that its buffer is full."""
    socket.send_fds(peer, [_encoder.encode(message)], list(descriptors))


def receive_at_scorer(peer: socket.socket) -> tuple[ToScorer, list[int]] | None:
    """A front-end's next message and the descriptors with it, which are the caller's to close; None at its end.

    Raises:
        ProtocolError: no such message.
        BlockingIOError: nothing there yet.
    """
    content, descriptors = _receive(peer)
    if not content:
        _close_all(descriptors)
        return None
    try:
        return _decode(_to_scorer, content), descriptors
    except ProtocolError:
        _close_all(descriptors)
        raise


def receive_from_scorer(peer: socket.socket) -> FromScorer | None:
    """The scorer's next message to a front-end; None at its end. Raises as ``receive_at_scorer``."""
    return _plain(peer, _from_scorer)


def receive_at_supervisor(peer: socket.socket) -> Pong | None:
    """The scorer's next message to its supervisor; None at its end. Raises as ``receive_at_scorer``."""
    return _plain(peer, _to_supervisor)


def receive_from_supervisor(peer: socket.socket) -> Ping | None:
    """The supervisor's next message; None at its end. Raises as ``receive_at_scorer``."""
    return _plain(peer, _from_supervisor)


def _plain(peer: socket.socket, decoder: msgspec.json.Decoder[T]) -> T | None:
    content, descriptors = _receive(peer)
    _close_all(descriptors)
    return _decode(decoder, content) if content else None


def _receive(peer: socket.socket) -> tuple[bytes, list[int]]:
    try:
        content, descriptors, flags, _ = socket.recv_fds(peer, _LARGEST, _DESCRIPTORS)
    except ConnectionError:
        return b"", []
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        _close_all(descriptors)
        raise ProtocolError("a message or its descriptors were cut off")
    return content, descriptors


def _decode(decoder: msgspec.json.Decoder[T], content: bytes) -> T:
    try:
        return decoder.decode(content)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"not a message: {error}") from None


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
