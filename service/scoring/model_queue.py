"""One model's waiting line: who may join it, who is next, who left, and what the callers are told.

Earliest deadline first. Knows no other model and no thread: the scheduler says when a batch is taken and run. All methods
belong to one event loop; only ``run`` may be called elsewhere.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Generic

from service.scoring.admission import Admission
from service.scoring.deadline_alarm import DeadlineAlarm
from service.scoring.deadline_queue import DeadlineQueue
from service.scoring.errors import (
    DeadlinePassedError,
    ScorerClosedError,
    ScoringError,
    ScoringFailedError,
)
from service.scoring.policies import BatchLimits, Policy
from service.scoring.queue_ports import BatchObserver, Turns
from service.scoring.run_cost import LearnedCost
from service.scoring.submission import (
    FAILURES,
    Answer,
    BatchRun,
    Division,
    Item,
    Piece,
    Result,
    Run,
    Submission,
    run_batch,
    text_of,
)

_TOO_LATE = "no scores by the deadline"


class ModelQueue(Generic[Item, Result]):
    """Serves ``submit`` for one model; made by ``Scheduler.queue``."""

    def __init__(
        self,
        name: str,
        run: BatchRun[Item, Result],
        policy: Policy,
        limits: BatchLimits,
        observer: BatchObserver,
        *,
        turns: Turns,
        division: Division[Item, Result] | None = None,
    ) -> None:
        self.name = name
        self.policy = policy
        self.served_s = 0.0
        self._run = run
        self._inline = policy.where == "inline"
        self._tile_rows = min(policy.tile_rows, limits.max_batch_rows)
        self._merge_rows = min(policy.merge_rows, self._tile_rows)
        self._observer = observer
        self._turns = turns
        self._division = division
        self._queue: DeadlineQueue[Submission[Item, Result]] = DeadlineQueue()
        self._cost = LearnedCost(policy.cost)
        self._admission = Admission(name, self._tile_rows, limits.max_queue_rows, self._merge_rows > 0, self._cost)
        self._in_flight: list[Piece[Item, Result]] = []
        self._in_flight_since = 0.0
        self._alarm = DeadlineAlarm(self._expire)
        self._closed = False
        self._quiet: asyncio.Future[None] | None = None

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a run; telemetry reads it when it wants to know."""
        return self._queue.rows

    @property
    def is_busy(self) -> bool:
        """Whether a batch of this queue is with a thread."""
        return bool(self._in_flight)

    async def submit(self, item: Item, *, rows: int, deadline: float) -> Answer[Result]:
        """Wait for the item's result, at most until ``deadline`` (a moment of ``time.monotonic``).

        A caller who leaves, by cancellation or at the deadline, takes the item out of the line; when it is being run
        already its result is dropped. A run on the event loop that began in time is answered even if it ends late.

        Raises:
            OverloadedError: ``max_queue_rows`` would be passed, or the deadline would while others are served; nothing was
                done. An empty line takes any one request.
            DeadlinePassedError: no result by the deadline; raised at the deadline, even while a thread's run is in progress.
            ScoringFailedError: the item cannot be scored.
            ScorerClosedError: ``drain`` or ``close`` was called.
        """
        if rows < 1:
            raise ValueError(f"a submission needs at least one row, not {rows}")
        if self._closed:
            raise ScorerClosedError(f"{self.name}: the scorer is closed")
        now = time.monotonic()
        self._admission.check(self._queue, rows, deadline, now, self)
        if self._inline and rows <= self._tile_rows and self._turns.may_run_now(self._cost.seconds(rows)):
            return self._run_now(item, rows, now)
        answer: asyncio.Future[Answer[Result]] = asyncio.get_running_loop().create_future()
        submission = Submission(item, rows, deadline, now, answer)
        submission.place = self._queue.push(submission, rows=rows, deadline=deadline)
        self._alarm.set(deadline)
        try:
            self._turns.wake(self)
            return await answer
        finally:
            self._leave(submission)
            self._tell_if_quiet()
            # A raised error's traceback holds this frame and the future holds the error: break the circle.
            del submission, answer

    async def drain(self) -> None:
        """Take nothing new and wait until everything accepted is answered, each at the latest by its own deadline."""
        self._closed = True
        while self._queue or self._in_flight:
            if self._quiet is None:
                self._quiet = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._quiet)

    def close(self) -> None:
        """Take nothing new and fail what waits. A run in progress still answers its callers."""
        self._closed = True
        self._fail(self._queue.take_all(), ScorerClosedError, "the scorer was closed")

    def backlog_s(self) -> float:
        """Seconds of work that wait, by what runs have cost so far."""
        return self._admission.backlog_s(self._queue)

    def next_run_s(self) -> float:
        """Seconds that the next run may take."""
        return self._admission.next_run_s(self._queue)

    def flying_s(self) -> float:
        """Seconds that the run in progress will still take."""
        if not self._in_flight:
            return 0.0
        rows = sum(piece.rows for piece in self._in_flight)
        return max(0.0, self._cost.seconds(rows) - (time.monotonic() - self._in_flight_since))

    def others_s(self, own_s: float) -> float:
        """Seconds that other queues get while this one is given ``own_s``."""
        return self._turns.others_s(self, own_s)

    def take(self) -> list[Piece[Item, Result]]:
        """The next batch: one tile of a large request, one request, or several small ones; empty when nobody waits."""
        self._fail(self._queue.take_expired(time.monotonic()), DeadlinePassedError, _TOO_LATE)
        head = self._queue.head()
        if head is None:
            return []
        if self._division is not None and head.rows > self._tile_rows:
            submission = head.value
            assert submission is not None
            # Tiles of equal size: a small last one would pay a whole run's start for little.
            rows = math.ceil(head.rows / math.ceil(head.rows / self._tile_rows))
            self._queue.lessen(head, rows)
            return [self._piece(submission, rows)]
        batch = self._queue.take(self._tile_rows, self._merge_rows)
        return [self._piece(submission, submission.rows - submission.taken) for submission in batch]

    def run(self, batch: list[Piece[Item, Result]]) -> Run[Item, Result]:
        """Run a batch here and now; the one method for any thread."""
        return run_batch(self.name, self._run, self._division, batch)

    def started(self, batch: list[Piece[Item, Result]]) -> None:
        """A batch went to a thread."""
        self._in_flight = batch
        self._in_flight_since = time.monotonic()

    def returned(self) -> None:
        """It came back; its callers are not answered yet."""
        self._in_flight = []

    def finish(self, batch: list[Piece[Item, Result]], run: Run[Item, Result]) -> None:
        """Answer a batch's callers, then learn from its run and tell the observer."""
        requests = rows = failed = 0
        for piece, outcome in run.outcomes:
            requests += piece.start == 0
            rows += piece.rows
            if piece.complete(outcome, run, self._division):
                failed += 1
                self._leave(piece.submission)  # the rest of a divided one
        if len(run.outcomes) < len(batch):
            # Not run, so past the deadline or gone; the alarm does not look here any more.
            ran = {id(piece) for piece, _ in run.outcomes}
            missed = [piece.submission for piece in batch if id(piece) not in ran]
            self._fail(missed, DeadlinePassedError, _TOO_LATE)
        if rows:
            self._learn(requests, rows, run.seconds, failed)
        self._tell_if_quiet()

    def finish_thread(self, batch: list[Piece[Item, Result]], done: Future[Run[Item, Result]]) -> None:
        """``finish`` for what a thread hands back, if it hands anything back."""
        if done.cancelled():
            self.abandon(batch, ScorerClosedError, "the executor was shut down")
        elif (error := done.exception()) is not None:
            self.abandon(batch, ScoringFailedError, text_of(error))
            self._observer.requests_failed(self.name, requests=len(batch))
        else:
            self.finish(batch, done.result())

    def abandon(self, batch: list[Piece[Item, Result]], error: type[ScoringError], reason: str) -> None:
        """Fail a batch that was not run."""
        self._fail([piece.submission for piece in batch], error, reason)
        self._tell_if_quiet()

    def _run_now(self, item: Item, rows: int, now: float) -> Answer[Result]:
        """Score while nothing waits: no future, no place in the line, no timer."""
        outcome: Result | ScoringFailedError
        try:
            (outcome,) = self._run([item])
        except FAILURES as error:
            outcome = ScoringFailedError(f"{self.name}: {text_of(error)}")
        seconds = time.monotonic() - now
        failed = isinstance(outcome, ScoringFailedError)
        self._turns.ran_now(self, seconds)
        self._learn(1, rows, seconds, int(failed))
        try:
            if isinstance(outcome, ScoringFailedError):
                raise outcome
            return Answer(outcome, 0.0, seconds)
        finally:
            del outcome  # a raised error's traceback holds this frame

    def _piece(self, submission: Submission[Item, Result], rows: int) -> Piece[Item, Result]:
        start = submission.taken
        submission.taken += rows
        return Piece(submission, start, rows)

    def _leave(self, submission: Submission[Item, Result]) -> None:
        if submission.place is not None:
            self._queue.withdraw(submission.place)

    def _learn(self, requests: int, rows: int, seconds: float, failed: int) -> None:
        self._cost.learn(rows, seconds)
        self._observer.batch_scored(self.name, requests=requests, rows=rows, seconds=seconds)
        if failed:
            self._observer.requests_failed(self.name, requests=failed)

    def _expire(self, now: float) -> None:
        """Wake those whose deadline has come, and ask to be rung for the next."""
        late = [piece.submission for piece in self._in_flight if piece.submission.deadline <= now]
        self._fail([*self._queue.take_expired(now), *late], DeadlinePassedError, _TOO_LATE)
        due = [piece.submission.deadline for piece in self._in_flight if not piece.submission.answer.done()]
        head = self._queue.head()
        if head is not None:
            due.append(head.deadline)
        if due:
            self._alarm.set(min(due))
        self._tell_if_quiet()

    def _fail(self, submissions: Iterable[Submission[Item, Result]], error: type[ScoringError], reason: str) -> None:
        """Fail those that have no answer yet, each with an exception of its own."""
        for submission in submissions:
            submission.settle(error(f"{self.name}: {reason}"))

    def _tell_if_quiet(self) -> None:
        if self._quiet is not None and not self._queue and not self._in_flight:
            self._quiet.set_result(None)
            self._quiet = None
