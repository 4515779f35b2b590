"""Which requests run together, and what becomes of each: earliest deadline first within a model, models in turn."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence

from service.scoring.batch import Scores, ScoringRequest
from service.scoring.errors import ScoringFailedError
from service.scoring.process.guest import Guest, Ticket
from service.scoring.process.shelf import Run, ServedModel
from service.scoring.process.slot_codec import EXPIRED, FAILED, AnswerHeader
from service.scoring.submission import FAILURES, text_of

_Outcome = Scores | ScoringFailedError


class Runs:
    """Work-conserving: whoever calls ``run_next`` gets whatever waits, up to ``batch_rows``, and a larger request alone.

    A model that has work stands once in the circle of models, so a slow one delays another by at most one of its batches.
    """

    def __init__(self, batch_rows: int) -> None:
        self._batch_rows = batch_rows
        self._turn: deque[ServedModel] = deque()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._turn)

    def add(self, model: ServedModel, ticket: Ticket) -> None:
        """Join the model's line."""
        if not model.queue:
            self._turn.append(model)
        model.queue.push(ticket, rows=ticket.request.rows, deadline=ticket.header.deadline)

    def run_next(self) -> None:
        """Run one batch of the model whose turn it is, and answer it."""
        model = self._turn.popleft()
        batch = model.queue.take(self._batch_rows)
        if model.queue:
            self._turn.append(model)
        started_at = time.monotonic()
        live = [ticket for ticket in batch if ticket.is_live(started_at)]
        outcomes = isolated(model.opened.run, [ticket.request for ticket in live])
        seconds = time.monotonic() - started_at
        ran = set(live)
        for ticket in batch:
            if ticket not in ran:
                answer = AnswerHeader(ticket.header.sequence, 0.0, 0.0, EXPIRED, 0)
                ticket.guest.put_reason(ticket.slot, answer, "nobody waited for it any more")
        of_run = (len(live), sum(ticket.request.rows for ticket in live))
        for ticket, outcome in zip(live, outcomes, strict=True):
            header = ticket.header
            answer = AnswerHeader(header.sequence, started_at - header.submitted_at, seconds, FAILED, 0, *of_run)
            _put(model, ticket, answer, outcome)
            of_run = (0, 0)
        _ring(batch)


def isolated(run: Run, requests: Sequence[ScoringRequest]) -> list[_Outcome]:
    """Run the requests together; halve what raises until the culprits stand alone, so that only they fail."""
    if not requests:
        return []
    try:
        outcomes = list(run(requests))
        if len(outcomes) != len(requests):
            raise ValueError(f"{len(outcomes)} outcomes for {len(requests)} requests")
        return outcomes
    except FAILURES as error:
        if len(requests) == 1:
            return [ScoringFailedError(text_of(error))]
    middle = len(requests) // 2
    return isolated(run, requests[:middle]) + isolated(run, requests[middle:])


def _put(model: ServedModel, ticket: Ticket, answer: AnswerHeader, outcome: _Outcome) -> None:
    if isinstance(outcome, ScoringFailedError):
        ticket.guest.put_reason(ticket.slot, answer, f"{model.name}: {outcome}")
    else:
        ticket.guest.put_scores(ticket.slot, answer, outcome, model.opened.outputs)


def _ring(batch: Iterable[Ticket]) -> None:
    """One system call for each front-end in the batch."""
    slots: dict[Guest, list[int]] = {}
    for ticket in batch:
        slots.setdefault(ticket.guest, []).append(ticket.slot)
    for guest, answered in slots.items():
        guest.ring(answered)
