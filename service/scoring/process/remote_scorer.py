"""A model in the scorer process, with the face of a batcher: the loaded model cannot tell the two apart."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from models.manifest import ITEM_PART, GraphInput, Manifest
from service.scoring.batch import ATTENTION, Scores, ScoringRequest
from service.scoring.errors import DeadlinePassedError, OverloadedError, ScorerClosedError, ScoringFailedError
from service.scoring.process.errors import SlotTooSmallError
from service.scoring.process.mailbox import Addressee, Letter, Mailbox
from service.scoring.process.slot_codec import bytes_of, input_names, output_names
from service.scoring.queue_ports import BatchObserver
from service.scoring.submission import FAILURES, Answer, text_of

_NEWEST_WEIGHT = 0.1


class Post(Protocol):
    """The way to the scorer, as a remote model sees it."""

    def mailbox_of(self, handle: int) -> Mailbox | None:
        """Where to write for the model now; None while the scorer, or the model in it, is not there."""

    def why_absent(self, handle: int) -> str:
        """Why ``mailbox_of`` has nothing for the model now."""


class _Meter:
    """What runs cost; the front-end of a batch's first request hears of the whole batch."""

    def __init__(self, name: str, observer: BatchObserver) -> None:
        self._name = name
        self._observer = observer
        self.seconds_per_row = 0.0

    def batch_scored(self, requests: int, rows: int, seconds: float) -> None:
        newest = seconds / max(1, rows)
        known = self.seconds_per_row or newest
        self.seconds_per_row = known + _NEWEST_WEIGHT * (newest - known)
        self._observer.batch_scored(self._name, requests=requests, rows=rows, seconds=seconds)


class RemoteScorer:
    """Serves ``submit`` for one version that the scorer process holds.

    A request larger than a slot is divided by rows, and its scores are put together again. When the scorer dies, all who
    wait get ScoringFailedError at once, and so does everyone until the scorer is back with this version loaded.
    """

    def __init__(
        self, manifest: Manifest, handle: int, *, post: Post, slot_bytes: int, max_queue_rows: int, observer: BatchObserver
    ) -> None:
        self.name = f"{manifest.name}@{manifest.version}"
        self._post = post
        self._slot_bytes = slot_bytes
        self._max_queue_rows = max_queue_rows
        self._observer = observer
        # Not a method of this object: the circle would keep it, and the version in the scorer, until a collection.
        self._meter = _Meter(self.name, observer)
        names = {name: at for at, name in enumerate(input_names(manifest))}
        self._to = Addressee(handle, names, output_names(manifest), self._meter.batch_scored)
        self._row_inputs = _row_inputs(manifest)
        plain = len(manifest.score_names)
        self._answer_items = (plain, plain + manifest.history_length * any(out.name == ATTENTION for out in manifest.outputs))
        self._letters: set[Letter] = set()
        self._rows = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def handle(self) -> int:
        """The connection's number for the model."""
        return self._to.handle

    @property
    def waiting_rows(self) -> int:
        """Rows that have no scores yet, those that are being scored included."""
        return self._rows

    async def submit(self, item: ScoringRequest, *, rows: int, deadline: float) -> Answer[Scores]:
        """Wait for the request's scores, at most until ``deadline`` (a moment of ``time.monotonic``).

        Raises:
            OverloadedError: ``max_queue_rows`` would be passed, or no slot is free; nothing was done.
            DeadlinePassedError: no scores by the deadline; raised at the deadline, whatever the scorer is doing.
            ScoringFailedError: the request cannot be scored, or the scorer process is not there, or died meanwhile.
            ScorerClosedError: ``drain`` or ``close`` was called.
        """
        now = time.monotonic()
        mailbox = self._admit(rows, deadline, now)
        letters = self._send(mailbox, item, now, deadline)
        timer = asyncio.get_running_loop().call_at(deadline, self._expire, letters)
        self._enter(letters, rows)
        try:
            answers = []
            for letter in letters:  # no comprehension: its frame would hold the letter beside the error
                answers.append(await letter.answer)
            return _joined(answers)
        except ScoringFailedError:
            self._observer.requests_failed(self.name, requests=1)
            raise
        finally:
            timer.cancel()
            for letter in letters:
                mailbox.leave(letter)
            self._exit(letters, rows)
            # A raised error's traceback holds this frame and the future holds the error: break the circle.
            del letters, letter, timer

    async def drain(self) -> None:
        """Take nothing new and wait until everything accepted is answered, each at the latest by its own deadline."""
        self._closed = True
        await self._idle.wait()

    def close(self) -> None:
        """Take nothing new and fail what waits."""
        self._closed = True
        for letter in self._letters:
            if not letter.answer.done():
                letter.answer.set_exception(ScorerClosedError(f"{self.name}: the scorer was closed"))

    def _admit(self, rows: int, deadline: float, now: float) -> Mailbox:
        if rows < 1:
            raise ValueError(f"a submission needs at least one row, not {rows}")
        if self._closed:
            raise ScorerClosedError(f"{self.name}: the scorer is closed")
        if not deadline > now:  # also refuses NaN
            raise DeadlinePassedError(f"{self.name}: the deadline had passed before the request was queued")
        if self._rows and self._rows + rows > self._max_queue_rows:
            raise self._overloaded(f"{self._rows} rows wait, {rows} more would pass the limit of {self._max_queue_rows}")
        mailbox = self._post.mailbox_of(self._to.handle)
        if mailbox is None:
            raise self._failed(self._post.why_absent(self._to.handle))
        return mailbox

    def _send(self, mailbox: Mailbox, item: ScoringRequest, now: float, deadline: float) -> list[Letter]:
        """The request on its way: in one slot, or where it does not fit one, in as many as it needs."""
        if bytes_of(len(self._to.outputs), item.rows * self._answer_items[item.want_attention]) <= self._slot_bytes:
            if not mailbox.free:
                raise self._overloaded("all slots of the region are taken")
            with contextlib.suppress(SlotTooSmallError):
                return self._send_all(mailbox, [item], now, deadline)
        parts = self._divide(item)
        if len(parts) > mailbox.free:
            raise self._overloaded(f"{item.rows} rows need {len(parts)} slots of the region, {mailbox.free} are free")
        try:
            return self._send_all(mailbox, parts, now, deadline)
        except SlotTooSmallError as error:
            raise self._failed(str(error)) from None

    def _send_all(self, mailbox: Mailbox, parts: Sequence[ScoringRequest], now: float, deadline: float) -> list[Letter]:
        """All parts or none; rows are gathered while they are written, and may prove impossible."""
        letters: list[Letter] = []
        try:
            for part in parts:
                letters.append(mailbox.send(self._to, part, now=now, deadline=deadline))
        except BaseException as error:
            for letter in letters:
                mailbox.leave(letter)
            if isinstance(error, SlotTooSmallError) or not isinstance(error, FAILURES):
                raise
            raise self._failed(text_of(error)) from None
        return letters

    def _divide(self, item: ScoringRequest) -> list[ScoringRequest]:
        """Parts of about equal size that fit a slot, each with all of the user."""
        read = {name: array for name, array in item.inputs.items() if name in self._to.inputs}
        of_rows = {name: array for name, array in read.items() if name in self._row_inputs}
        of_user = sum(math.prod(array.shape) for name, array in read.items() if name not in of_rows)
        room = (self._slot_bytes - bytes_of(len(read), of_user)) // 4
        widest = max(self._answer_items[item.want_attention], sum(math.prod(array.shape[1:]) for array in of_rows.values()), 1)
        room_out = (self._slot_bytes - bytes_of(len(self._to.outputs), 0)) // 4
        most = min(room, room_out) // widest
        if most < 1:
            raise self._failed(f"one row of this request does not fit a slot of {self._slot_bytes} bytes")
        count = -(-item.rows // most)
        ends = [item.rows * part // count for part in range(count + 1)]
        return [
            ScoringRequest(
                {name: array[start:end] if name in of_rows else array for name, array in read.items()},
                end - start,
                item.want_attention,
            )
            for start, end in pairwise(ends)
        ]

    def _enter(self, letters: Sequence[Letter], rows: int) -> None:
        self._letters.update(letters)
        self._rows += rows
        self._idle.clear()

    def _exit(self, letters: Sequence[Letter], rows: int) -> None:
        self._letters.difference_update(letters)
        self._rows -= rows
        if not self._letters:
            self._idle.set()

    def _expire(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            if not letter.answer.done():
                letter.answer.set_exception(DeadlinePassedError(f"{self.name}: no scores by the deadline"))

    def _failed(self, reason: str) -> ScoringFailedError:
        self._observer.requests_failed(self.name, requests=1)
        return ScoringFailedError(f"{self.name}: {reason}")

    def _overloaded(self, reason: str) -> OverloadedError:
        return OverloadedError(f"{self.name}: {reason}", retry_after_s=self._rows * self._meter.seconds_per_row)


def _row_inputs(manifest: Manifest) -> frozenset[str]:
    forms: list[Sequence[GraphInput]] = [manifest.inputs]
    if manifest.collapsed is not None:
        forms += [manifest.collapsed.one_user.inputs, manifest.collapsed.many_users.inputs]
    return frozenset(each.name for form in forms for each in form if each.axis == "rows") | {ITEM_PART}


def _joined(answers: list[Answer[Scores]]) -> Answer[Scores]:
    """The parts' answers as one: the longest wait, and all the time that was spent on it."""
    if len(answers) == 1:
        return answers[0]
    names = answers[0].result.values
    values = {name: np.concatenate([answer.result.values[name] for answer in answers]) for name in names}
    return Answer(Scores(values), max(each.queue_s for each in answers), sum(each.run_s for each in answers))
