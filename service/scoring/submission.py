"""What is asked, what of it goes into one run, and a run in which only the culprits fail. Knows no event loop and no order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from service.scoring.deadline_queue import Place
from service.scoring.errors import ScoringError, ScoringFailedError

Item = TypeVar("Item")
Result = TypeVar("Result")

BatchRun = Callable[[Sequence[Item]], Sequence[Result | ScoringFailedError]]
"""What runs: for every item its result, or the error that is its own fault. Raises when it cannot tell whose fault it is:
the batch is then halved until the culprits stand alone."""

FAILURES = (Exception, SystemExit)
"""What a run may raise that is its own affair: a library that wants to leave does not take the process along."""


@dataclass(frozen=True, slots=True)
class Division(Generic[Item, Result]):
    """How a large item is run in parts. ``divide(item, start, stop)``: these rows of it. ``join``: of results, in order."""

    divide: Callable[[Item, int, int], Item]
    join: Callable[[Sequence[Result]], Result]


class Answer(msgspec.Struct, Generic[Result], frozen=True, gc=False):
    """One item's result, how long it waited for its first run to start, and how long its runs took, in seconds."""

    result: Result
    queue_s: float
    run_s: float


@dataclass(slots=True, eq=False)
class Submission(Generic[Item, Result]):
    """An item whose caller waits. ``taken``: rows that were given to runs. ``parts``: what came back of a divided one."""

    item: Item
    rows: int
    deadline: float
    submitted_at: float
    answer: asyncio.Future[Answer[Result]]
    place: Place[Submission[Item, Result]] | None = None
    taken: int = 0
    started_at: float | None = None
    run_s: float = 0.0
    parts: list[Result] = field(default_factory=list)

    def is_live(self) -> bool:
        """Whether anyone still wants it. Asked by a scoring thread too: a stale yes costs one needless run."""
        return not self.answer.done() and time.monotonic() < self.deadline

    def settle(self, outcome: Answer[Result] | ScoringError) -> None:
        """Answer the caller, unless there was an answer or the caller left."""
        if self.answer.done():
            return
        if isinstance(outcome, ScoringError):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class Piece(msgspec.Struct, Generic[Item, Result], frozen=True, eq=False):
    """The rows ``start`` to ``start + rows`` of a submission, in one run."""

    submission: Submission[Item, Result]
    start: int
    rows: int

    def item(self, division: Division[Item, Result] | None) -> Item:
        """What runs."""
        if division is None or self.rows == self.submission.rows:
            return self.submission.item
        return division.divide(self.submission.item, self.start, self.start + self.rows)

    def complete(
        self, outcome: Result | ScoringFailedError, run: Run[Item, Result], division: Division[Item, Result] | None
    ) -> bool:
        """Settle the submission if it failed or this was its last piece (they are run in order); whether it failed."""
        submission = self.submission
        submission.run_s += run.seconds
        if submission.started_at is None:
            submission.started_at = run.started_at
        if isinstance(outcome, ScoringFailedError):
            submission.settle(outcome)
            return True
        submission.parts.append(outcome)
        if self.start + self.rows < submission.rows:
            return False
        try:
            result = outcome if division is None or not self.start else division.join(submission.parts)
        except FAILURES as error:
            submission.settle(ScoringFailedError(f"the parts' results do not join: {text_of(error)}"))
            return True
        submission.settle(Answer(result, submission.started_at - submission.submitted_at, submission.run_s))
        return False


Outcome = tuple[Piece[Item, Result], Result | ScoringFailedError]


class Run(msgspec.Struct, Generic[Item, Result], frozen=True, eq=False):
    """What was run, each piece with its outcome, from when on (``time.monotonic``) and for how long.

    Pieces of the batch that are not among them had nobody who wanted them any more.
    """

    outcomes: Sequence[Outcome[Item, Result]]
    started_at: float
    seconds: float


def run_batch(
    name: str,
    run: BatchRun[Item, Result],
    division: Division[Item, Result] | None,
    batch: Sequence[Piece[Item, Result]],
) -> Run[Item, Result]:
    """Run what is still wanted of a batch, on whichever thread this is called."""
    started_at = time.monotonic()
    outcomes = _isolate(name, run, division, batch)
    return Run(outcomes, started_at, time.monotonic() - started_at)


def _isolate(
    name: str,
    run: BatchRun[Item, Result],
    division: Division[Item, Result] | None,
    batch: Sequence[Piece[Item, Result]],
) -> list[Outcome[Item, Result]]:
    """Halve a batch that fails, so that only the culprits fail: one among n costs at most 2*ceil(log2(n)) further runs."""
    live = [piece for piece in batch if piece.submission.is_live()]
    if not live:
        return []
    try:
        results = run([piece.item(division) for piece in live])
        return list(zip(live, results, strict=True))
    except FAILURES as error:
        if len(live) == 1:
            return [(live[0], ScoringFailedError(f"{name}: {text_of(error)}"))]
    middle = len(live) // 2
    return _isolate(name, run, division, live[:middle]) + _isolate(name, run, division, live[middle:])


def text_of(error: BaseException) -> str:
    """An error as text: a kept exception would keep its traceback, and with it the batch's arrays, alive."""
    return f"{type(error).__name__}: {str(error)[:500]}"
