"""When to run: merges concurrent submissions for one scorer into batches. Knows neither arrays nor the engine.

Work-conserving: an idle scorer gets whatever waits at once, without a timer; batches form only while a run is in progress.
One run at a time and no resident task, so an idle batcher is freed with its last holder. All methods belong to one event
loop; only ``_score`` runs elsewhere, on a thread of the executor.

Several batchers may share one executor. Each has at most one batch in it and the executor serves in order of arrival, so a
thread goes round the models that have work: a slow one delays its neighbours by at most one of its batches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from service.scoring.deadline_queue import DeadlineQueue
from service.scoring.errors import (
    DeadlinePassedError,
    OverloadedError,
    ScorerClosedError,
    ScoringError,
    ScoringFailedError,
)

Item = TypeVar("Item")
Result = TypeVar("Result")

BatchRun = Callable[[Sequence[Item]], Sequence[Result | ScoringFailedError]]
"""What runs: for every item its result, or the error that is its own fault. Raises when it cannot tell whose fault it is:
the batch is then halved until the culprits stand alone."""

_NEWEST_WEIGHT = 0.1
"""Weight of the newest batch in the moving average of the cost of a row."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """``max_batch_rows``: rows of one run (a larger request goes alone). ``max_queue_rows``: rows that may wait."""

    max_batch_rows: int
    max_queue_rows: int

    def __post_init__(self) -> None:
        for name, rows in (("max_batch_rows", self.max_batch_rows), ("max_queue_rows", self.max_queue_rows)):
            if rows < 1:
                raise ValueError(f"{name} must be at least 1, not {rows}")


@dataclass(frozen=True, slots=True)
class Answer(Generic[Result]):
    """One item's result, how long it waited for its run to start, and how long the run took (all of it, in seconds)."""

    result: Result
    queue_s: float
    run_s: float


class BatchObserver(Protocol):
    """Told what happens, on the event loop; ``model`` is the batcher's name."""

    def batch_scored(self, model: str, *, requests: int, rows: int, seconds: float) -> None:
        """A batch was run, with so many requests and rows in it, those that failed included."""

    def requests_failed(self, model: str, *, requests: int) -> None:
        """So many requests could not be scored through their own fault or the scorer's."""

    def queue_depth(self, model: str, *, rows: int) -> None:
        """So many rows wait now."""


@dataclass(slots=True, eq=False)
class _Submission(Generic[Item, Result]):
    item: Item
    rows: int
    deadline: float
    submitted_at: float
    answer: asyncio.Future[Answer[Result]]

    def is_live(self) -> bool:
        """Whether anyone still wants it. Asked by the scorer's thread too: a stale yes costs one needless run."""
        return not self.answer.done() and time.monotonic() < self.deadline

    def settle(self, outcome: Answer[Result] | ScoringError) -> None:
        """Answer the caller, unless there was an answer or the caller left."""
        if self.answer.done():
            return
        if isinstance(outcome, ScoringError):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


@dataclass(frozen=True, slots=True)
class _Run(Generic[Item, Result]):
    """What the scorer's thread hands back: the submissions that were run, each with its outcome.

    Those of the batch that are not among them had left, or were past their deadline: their own timers answer them.
    """

    outcomes: Sequence[tuple[_Submission[Item, Result], Result | ScoringFailedError]]
    started_at: float
    seconds: float


class Batcher(Generic[Item, Result]):
    """Serves ``submit`` for one scorer; see the module's text for the rules."""

    def __init__(
        self,
        name: str,
        run: BatchRun[Item, Result],
        *,
        executor: Executor,
        limits: BatchLimits,
        observer: BatchObserver,
    ) -> None:
        self.name = name
        self._run = run
        self._executor = executor
        self._limits = limits
        self._observer = observer
        self._queue: DeadlineQueue[_Submission[Item, Result]] = DeadlineQueue()
        self._rows_in_flight = 0
        self._dispatched_at = 0.0
        self._seconds_per_row = 0.0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a run."""
        return self._queue.rows

    async def submit(self, item: Item, *, rows: int, deadline: float) -> Answer[Result]:
        """Wait for the item's result, at most until ``deadline`` (a moment of ``time.monotonic``).

        A caller who leaves, by cancellation or at the deadline, takes the item out of the line; when it is being run
        already its result is dropped.

        Raises:
            OverloadedError: ``max_queue_rows`` would be passed; nothing was done. An empty line takes any one request.
            DeadlinePassedError: no result by the deadline; raised at the deadline, even while a run is in progress.
            ScoringFailedError: the item cannot be scored.
            ScorerClosedError: ``drain`` or ``close`` was called.
        """
        submission = self._admit(item, rows, deadline)
        place = self._queue.push(submission, rows=rows, deadline=deadline)
        timer = asyncio.get_running_loop().call_at(deadline, self._expire, submission)
        try:
            self._dispatch()
            self._observer.queue_depth(self.name, rows=self._queue.rows)
            return await submission.answer
        finally:
            timer.cancel()
            self._queue.withdraw(place)
            # A raised error's traceback holds this frame and the future holds the error: break the circle.
            del submission

    async def drain(self) -> None:
        """Take nothing new and wait until everything accepted is answered, each at the latest by its own deadline."""
        self._closed = True
        await self._idle.wait()

    def close(self) -> None:
        """Take nothing new and fail what waits. A run in progress still answers its callers."""
        self._closed = True
        self._fail(self._queue.take_all(), ScorerClosedError, "the scorer was closed")

    def _admit(self, item: Item, rows: int, deadline: float) -> _Submission[Item, Result]:
        if rows < 1:
            raise ValueError(f"a submission needs at least one row, not {rows}")
        if self._closed:
            raise ScorerClosedError(f"{self.name}: the scorer is closed")
        now = time.monotonic()
        if not deadline > now:  # also refuses NaN, which has no place in the order
            raise DeadlinePassedError(f"{self.name}: the deadline had passed before the request was queued")
        waiting = self._queue.rows
        if waiting and waiting + rows > self._limits.max_queue_rows:
            raise OverloadedError(
                f"{self.name}: {waiting} rows wait, {rows} more would pass the limit of {self._limits.max_queue_rows}",
                retry_after_s=(waiting + self._rows_in_flight) * self._seconds_per_row,
            )
        answer = asyncio.get_running_loop().create_future()
        return _Submission(item, rows, deadline, now, answer)

    def _dispatch(self) -> None:
        """Start a run if none is in progress and something waits."""
        if self._rows_in_flight or not self._queue:
            return
        batch = self._queue.take(self._limits.max_batch_rows)
        loop = asyncio.get_running_loop()
        try:
            run = self._executor.submit(self._score, batch)
        except RuntimeError:  # the executor was shut down under us
            self.close()
            self._fail(batch, ScorerClosedError, "the executor was shut down")
            return
        self._rows_in_flight = sum(submission.rows for submission in batch)
        self._dispatched_at = time.monotonic()
        self._idle.clear()
        run.add_done_callback(lambda done: loop.call_soon_threadsafe(self._finish, batch, done))

    def _score(self, batch: Sequence[_Submission[Item, Result]]) -> _Run[Item, Result]:
        """Run a batch; on a thread of the executor."""
        started_at = time.monotonic()
        outcomes = self._isolate(batch)
        return _Run(outcomes, started_at, time.monotonic() - started_at)

    def _isolate(
        self, batch: Sequence[_Submission[Item, Result]]
    ) -> list[tuple[_Submission[Item, Result], Result | ScoringFailedError]]:
        """Run what is still wanted; halve a batch that fails, so that only the culprits fail.

        One culprit among n costs at most 2*ceil(log2(n)) further runs.
        """
        live = [submission for submission in batch if submission.is_live()]
        if not live:
            return []
        try:
            results = self._run([submission.item for submission in live])
            return list(zip(live, results, strict=True))
        except Exception as error:
            if len(live) == 1:
                return [(live[0], ScoringFailedError(f"{self.name}: {_text_of(error)}"))]
        middle = len(live) // 2
        return self._isolate(live[:middle]) + self._isolate(live[middle:])

    def _finish(self, batch: Sequence[_Submission[Item, Result]], done: Future[_Run[Item, Result]]) -> None:
        """Back on the event loop: keep the scorer busy first, then answer, then tell the observer."""
        seconds = time.monotonic() - self._dispatched_at
        self._rows_in_flight = 0
        self._dispatch()
        if not self._rows_in_flight:
            self._idle.set()
        if done.cancelled():
            self._fail(batch, ScorerClosedError, "the executor was shut down")
        elif (error := done.exception()) is not None:
            self._fail(batch, ScoringFailedError, _text_of(error))
            self._observer.requests_failed(self.name, requests=len(batch))
        else:
            run = done.result()
            self._answer(run)
            self._learn(run, seconds)
        self._observer.queue_depth(self.name, rows=self._queue.rows)

    def _answer(self, run: _Run[Item, Result]) -> None:
        for submission, outcome in run.outcomes:
            if isinstance(outcome, ScoringFailedError):
                submission.settle(outcome)
            else:
                submission.settle(Answer(outcome, run.started_at - submission.submitted_at, run.seconds))

    def _learn(self, run: _Run[Item, Result], seconds: float) -> None:
        """Tell the observer about a run and follow the cost of a row, the wait for a thread included."""
        rows = sum(submission.rows for submission, _ in run.outcomes)
        if not rows:
            return
        newest = seconds / rows
        known = self._seconds_per_row or newest
        self._seconds_per_row = known + _NEWEST_WEIGHT * (newest - known)
        self._observer.batch_scored(self.name, requests=len(run.outcomes), rows=rows, seconds=run.seconds)
        failed = sum(isinstance(outcome, ScoringFailedError) for _, outcome in run.outcomes)
        if failed:
            self._observer.requests_failed(self.name, requests=failed)

    def _expire(self, submission: _Submission[Item, Result]) -> None:
        self._fail([submission], DeadlinePassedError, "no scores by the deadline")

    def _fail(self, batch: Iterable[_Submission[Item, Result]], error: type[ScoringError], reason: str) -> None:
        """Fail those that have no answer yet, each with an exception of its own."""
        for submission in batch:
            submission.settle(error(f"{self.name}: {reason}"))


def _text_of(error: BaseException) -> str:
    """An error as text: a kept exception would keep its traceback, and with it the batch's arrays, alive."""
    return f"{type(error).__name__}: {str(error)[:500]}"
