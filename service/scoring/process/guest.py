"""One front-end as the scorer sees it: its region, its doorbells, the models it holds."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from service.scoring.batch import Scores, ScoringRequest
from service.scoring.process import messages, slot_codec
from service.scoring.process.errors import ProtocolError, SlotTooSmallError
from service.scoring.process.region import Doorbell, Region
from service.scoring.process.slot_codec import AnswerHeader, RequestHeader


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A request that waits in a slot; its arrays are views of the slot."""

    guest: Guest
    slot: int
    header: RequestHeader
    request: ScoringRequest

    def is_live(self, now: float) -> bool:
        """Whether anyone still wants it."""
        return self.guest.alive and self.header.deadline > now and self.guest.wants(self.slot)


class Guest:
    """Made from a connection's first message. ``alive`` ends when the front-end died or broke the protocol."""

    def __init__(self, peer: socket.socket, hello: messages.Hello, descriptors: Sequence[int]) -> None:
        """Attach the region; the descriptors are the guest's from here on, also when this raises.

        Raises:
            ProtocolError: another protocol, or descriptors of other things.
        """
        self.peer = peer
        self.pid = hello.pid
        self.handles: dict[int, str] = {}
        self.alive = True
        try:
            if hello.protocol != messages.PROTOCOL or len(descriptors) != 3:
                raise ProtocolError(f"protocol {hello.protocol} with {len(descriptors)} descriptors is not spoken here")
            for each in descriptors[1:]:
                _check_eventfd(each)
            self._region = Region.attach(descriptors[0])
        except ProtocolError:
            for each in descriptors:
                os.close(each)
            raise
        os.close(descriptors[0])
        self._requests = Doorbell(self._region.request_ring, descriptors[1])
        self._answers = Doorbell(self._region.answer_ring, descriptors[2])

    @property
    def doorbell(self) -> int:
        """The descriptor that becomes readable when requests were put into slots."""
        return self._requests.descriptor

    def arrivals(self) -> list[tuple[int, RequestHeader]]:
        """Slots that were handed over, with their headers. Raises ProtocolError for slots that do not exist."""
        return [(slot, slot_codec.read_request_header(self._region, slot)) for slot in self._requests.take()]

    def ticket(self, slot: int, header: RequestHeader, names: Sequence[str]) -> Ticket:
        """The request in a slot. Raises ProtocolError when the slot holds no such arrays."""
        return Ticket(self, slot, header, slot_codec.read_request(self._region, slot, header, names))

    def wants(self, slot: int) -> bool:
        """Whether the caller still waits for this slot."""
        return slot_codec.is_wanted(self._region, slot)

    def put_scores(self, slot: int, answer: AnswerHeader, scores: Scores, names: Mapping[str, int]) -> None:
        """Write an answer; nobody reads it before ``ring``."""
        try:
            slot_codec.write_scores(self._region, slot, answer, scores.values, names)
        except (SlotTooSmallError, KeyError) as error:
            self.put_reason(slot, replace(answer, code=slot_codec.FAILED), f"the answer does not fit: {error}")

    def put_reason(self, slot: int, answer: AnswerHeader, reason: str) -> None:
        """Write why there are no scores."""
        slot_codec.write_reason(self._region, slot, answer, reason)

    def ring(self, slots: Sequence[int]) -> None:
        """Hand answers over."""
        if self.alive:
            self._answers.put(slots)

    def close(self) -> None:
        """Let go of everything; the memory goes when the last view of it does."""
        if self.alive:
            self.alive = False
            self.peer.close()
            self._requests.close()
            self._answers.close()


def _check_eventfd(descriptor: int) -> None:
    """A doorbell that is a file or a pipe could block the scorer for ever."""
    try:
        kind = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - the link names no path
    except OSError as error:
        raise ProtocolError(f"not a doorbell: {error}") from None
    if "[eventfd]" not in kind:
        raise ProtocolError(f"not a doorbell: {kind}")
    os.set_blocking(descriptor, False)
