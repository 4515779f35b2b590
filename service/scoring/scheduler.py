"""Whose turn it is: one scheduler a process shares the event loop and the scoring threads among all models.

Work-conserving: whatever waits is run at once where there is room, without a timer; batches form only while something runs.

*Inline* models (CPU) are run on the event loop itself: one tile, or several that take no longer than ``step_s`` together, in
each of its rounds, so that requests are read and answers written in between. A request that meets no other is scored within
``submit``, which costs neither a future nor a timer. *Thread* models (GPU) have one batch each with the executor at most; one
wake-up of the event loop a batch. Between models the seconds that each was given decide (``fair_share``): a slow one delays
its neighbours by one of its tiles, or batches, at most.

No resident task: an idle scheduler does nothing, and a queue that nobody holds is freed. All methods belong to one event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any
from weakref import WeakSet

from service.scoring.errors import ScorerClosedError, ScoringFailedError
from service.scoring.fair_share import FairShare
from service.scoring.model_queue import ModelQueue
from service.scoring.policies import BatchLimits, Policy
from service.scoring.queue_ports import BatchObserver
from service.scoring.submission import BatchRun, Division, Item, Piece, Result, Run, text_of

_AnyQueue = ModelQueue[Any, Any]


class Scheduler:
    """Serves the queues made by ``queue``; see the module's text for the rules."""

    def __init__(self, executor: Executor | None = None, *, threads: int = 1, step_s: float = 0.001) -> None:
        """``threads``: batches that may be with the executor at once. ``step_s``: how long the event loop may be kept from
        everything else by several small tiles; 0 runs one tile a round. A request that is run at once finds its item rows
        still in the caches and needs no future, so short steps cost more than they give."""
        self._executor = executor
        self._threads = threads
        self._step_s = step_s
        self._queues: WeakSet[_AnyQueue] = WeakSet()
        self._knowing = threading.Lock()  # a loading thread adds a queue while metrics are asked for
        self._inline: FairShare[_AnyQueue] = FairShare()
        self._threaded: FairShare[_AnyQueue] = FairShare()
        self._running = 0
        self._spent_s = 0.0
        self._next_step: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def queue(
        self,
        name: str,
        run: BatchRun[Item, Result],
        policy: Policy,
        limits: BatchLimits,
        observer: BatchObserver,
        *,
        division: Division[Item, Result] | None = None,
    ) -> ModelQueue[Item, Result]:
        """A new model's queue. Without ``division`` a request larger than a tile is run alone and whole.

        Raises:
            ValueError: a thread is wanted from a scheduler without an executor.
        """
        queue = ModelQueue(name, run, policy, limits, observer, turns=self, division=division)
        self.adopt(queue)
        return queue

    def adopt(self, queue: _AnyQueue) -> None:
        """Know a queue that was made elsewhere for this scheduler."""
        if queue.policy.where == "thread" and self._executor is None:
            raise ValueError(f"{queue.name}: a thread is wanted, but the scheduler has no executor")
        with self._knowing:
            self._queues.add(queue)

    def waiting_rows(self) -> Mapping[str, int]:
        """Rows that wait, by queue; for telemetry, which samples it."""
        with self._knowing:
            queues = list(self._queues)
        return {queue.name: queue.waiting_rows for queue in queues}

    def has_backlog(self) -> bool:
        """Whether more tiles wait on the event loop than its next round will run: what comes now is not scored before."""
        ready = self._inline.ready
        return bool(ready) and sum(queue.backlog_s() for queue in ready) > self._step_s

    def may_run_now(self, seconds: float) -> bool:
        """Whether nothing waits and this round of the event loop has so much left; its first run may always start."""
        if self._inline.ready:
            return False
        if self._next_step is None or self._loop is not asyncio.get_running_loop():
            return True
        return self._spent_s + seconds <= self._step_s

    def ran_now(self, queue: _AnyQueue, seconds: float) -> None:
        """Book a run within ``submit``; whoever comes later in this round may find its time spent."""
        self._inline.charge_alone(queue, seconds)
        self._spent_s += seconds
        self._call_step()

    def wake(self, queue: _AnyQueue) -> None:
        """The queue has work: see that it is done."""
        if queue.policy.where == "inline":
            self._inline.join(queue)
            self._call_step()
        elif not queue.is_busy:
            self._threaded.join(queue)
            self._dispatch()

    def others_s(self, queue: _AnyQueue, own_s: float) -> float:
        """Seconds that others get while ``queue`` is given ``own_s``: as much each, if they have so much to do."""
        share = self._inline if queue.policy.where == "inline" else self._threaded
        others = [other for other in share.ready if other is not queue]
        return sum([min(other.backlog_s(), own_s) for other in others]) if others else 0.0

    def _call_step(self) -> None:
        loop = asyncio.get_running_loop()
        if self._next_step is None or self._loop is not loop:
            self._loop = loop
            self._next_step = loop.call_soon(self._step)

    def _step(self) -> None:
        """One round of the event loop."""
        self._next_step = None
        self._spent_s = 0.0
        try:
            while (queue := self._inline.next()) is not None:
                if self._spent_s and self._spent_s + queue.next_run_s() > self._step_s:
                    break
                self._run_tile(queue)
        finally:
            if self._inline.ready or self._spent_s:
                self._call_step()

    def _run_tile(self, queue: _AnyQueue) -> None:
        batch = queue.take()
        if batch:
            self._inline.begin(queue)
            try:
                run = queue.run(batch)
            except BaseException as error:
                queue.abandon(batch, ScoringFailedError, text_of(error))
                raise
            self._spent_s += run.seconds
            self._inline.charge(queue, run.seconds)
            queue.finish(batch, run)
        if not queue.waiting_rows:
            self._inline.leave(queue)

    def _dispatch(self) -> None:
        """Give the threads that are free to those who were given least."""
        loop = asyncio.get_running_loop()
        while self._running < self._threads and (queue := self._threaded.next()) is not None:
            self._threaded.leave(queue)  # one batch each: it comes back when this one has
            batch = queue.take()
            if not batch:
                continue
            assert self._executor is not None
            try:
                run = self._executor.submit(queue.run, batch)
            except RuntimeError:  # the executor was shut down under us
                queue.close()
                queue.abandon(batch, ScorerClosedError, "the executor was shut down")
                continue
            self._running += 1
            self._threaded.begin(queue)
            queue.started(batch)
            finish = partial(self._finish, queue, batch)
            run.add_done_callback(partial(loop.call_soon_threadsafe, finish))

    def _finish(self, queue: _AnyQueue, batch: list[Piece[Any, Any]], done: Future[Run[Any, Any]]) -> None:
        """Back on the event loop: keep the threads busy first, then answer, then tell the observer."""
        self._running -= 1
        queue.returned()
        if not done.cancelled() and done.exception() is None:
            self._threaded.charge(queue, done.result().seconds)
        if queue.waiting_rows:
            self._threaded.join(queue)
        try:
            self._dispatch()
        finally:
            queue.finish_thread(batch, done)
