"""The front-end's side of one region: which slots are free, who waits for which, which answers came. One event loop's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.scoring.batch import Scores, ScoringRequest
from service.scoring.errors import DeadlinePassedError, ScoringError, ScoringFailedError
from service.scoring.process import slot_codec
from service.scoring.process.errors import ProtocolError
from service.scoring.process.region import Doorbell, Region, RegionShape, new_eventfd
from service.scoring.submission import Answer


@dataclass(frozen=True, slots=True)
class Addressee:
    """A model as the front-end writes to it; ``batch_scored`` is told of each run: requests, rows, seconds."""

    handle: int
    inputs: Mapping[str, int]
    outputs: tuple[str, ...]
    batch_scored: Callable[[int, int, float], None]


@dataclass(slots=True, eq=False)
class Letter:
    """A request in a slot. ``sequence`` is in its answer too, so an answer can be no other request's."""

    slot: int
    sequence: int
    to: Addressee
    answer: asyncio.Future[Answer[Scores]]


class Mailbox:
    """Slots under way. A slot whose caller left stays taken until its answer comes: the scorer may still read or write it."""

    def __init__(self, shape: RegionShape) -> None:
        """Raises OSError when no descriptor or no memory is to be had; nothing stays open then."""
        with contextlib.ExitStack() as undo:
            self._region, self._descriptor = Region.create(shape)
            undo.callback(os.close, self._descriptor)
            self._requests = Doorbell(self._region.request_ring, new_eventfd())
            undo.callback(self._requests.close)
            self._answers = Doorbell(self._region.answer_ring, new_eventfd())
            undo.pop_all()
        # The slot given back last is taken next: its pages are in the cache, and few pages are ever used at low load.
        self._free = list(range(shape.slots))
        self._under_way: dict[int, Letter] = {}
        self._sequence = 0

    @property
    def free(self) -> int:
        """Slots that can be taken."""
        return len(self._free)

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """What the scorer needs to attach: the region, the doorbell of requests, the doorbell of answers."""
        return (self._descriptor, self._requests.descriptor, self._answers.descriptor)

    def send(self, to: Addressee, request: ScoringRequest, *, now: float, deadline: float) -> Letter:
        """Write a request into a free slot and ring.

        Raises:
            IndexError: no slot is free.
            SlotTooSmallError: the request does not fit a slot.
        """
        slot = self._free[-1]
        self._sequence += 1
        header = slot_codec.RequestHeader(
            self._sequence, deadline, now, to.handle, request.rows, request.want_attention, arrays=0
        )
        slot_codec.write_request(self._region, slot, header, request, to.inputs)
        self._free.pop()
        letter = Letter(slot, self._sequence, to, asyncio.get_running_loop().create_future())
        self._under_way[slot] = letter
        self._requests.put((slot,))
        return letter

    def leave(self, letter: Letter) -> None:
        """Nobody waits for the letter's answer any more; nothing happens when it came already."""
        answer = letter.answer
        if not answer.done():
            answer.cancel()
        elif not answer.cancelled():
            answer.exception()  # heard
        if self._under_way.get(letter.slot) is letter:
            slot_codec.drop(self._region, letter.slot)

    def collect(self) -> None:
        """Hand out the answers that came.

        Raises:
            ProtocolError: the scorer answered what was never asked; nothing it says can be believed any more. Whoever
                has no answer yet gets an error by ``fail_all``.
        """
        for slot in self._answers.take():
            letter = self._under_way.get(slot)
            header = slot_codec.read_answer_header(self._region, slot)
            if letter is None or header.sequence != letter.sequence:
                raise ProtocolError(f"slot {slot}: the answer is to another request")
            if not letter.answer.done():
                self._settle(letter, header)
            del self._under_way[slot]  # not before: who has no answer yet must be found by fail_all
            self._free.append(slot)
            if header.batch_requests:
                letter.to.batch_scored(header.batch_requests, header.batch_rows, header.run_s)

    def fail_all(self, reason: str) -> None:
        """The scorer is gone: fail all who wait, each with an error of its own."""
        for letter in self._under_way.values():
            if not letter.answer.done():
                letter.answer.set_exception(ScoringFailedError(reason))
        self._under_way.clear()
        self._free.clear()

    def close(self) -> None:
        """Give the descriptors back; the memory goes with its last view."""
        os.close(self._descriptor)
        self._requests.close()
        self._answers.close()

    def _settle(self, letter: Letter, header: slot_codec.AnswerHeader) -> None:
        if header.code == slot_codec.SCORED:
            values = slot_codec.read_scores(self._region, letter.slot, header, letter.to.outputs)
            letter.answer.set_result(Answer(Scores(values), header.queue_s, header.run_s))
        else:
            letter.answer.set_exception(_error(header.code, slot_codec.read_reason(self._region, letter.slot, header)))


def _error(code: int, reason: str) -> ScoringError:
    return DeadlinePassedError(reason) if code == slot_codec.EXPIRED else ScoringFailedError(reason)
