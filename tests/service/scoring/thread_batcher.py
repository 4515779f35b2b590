"""A queue with a scheduler of its own, on a thread: for one model that shares nothing with others but its executor.

Several may share one executor. Each has at most one batch in it and the executor serves in order of arrival, so a thread
goes round the models that have work. A process that serves several models makes one ``Scheduler`` and its queues instead.
"""

from __future__ import annotations

from concurrent.futures import Executor

from service.scoring.model_queue import ModelQueue
from service.scoring.policies import BatchLimits, Policy
from service.scoring.queue_ports import BatchObserver
from service.scoring.scheduler import Scheduler
from service.scoring.submission import Answer, BatchRun, Item, Result

__all__ = ["Answer", "BatchLimits", "BatchObserver", "BatchRun", "Batcher"]


class Batcher(ModelQueue[Item, Result]):
    """Serves ``submit`` for one scorer: batches of at most ``limits.max_batch_rows``, larger requests alone and whole."""

    def __init__(
        self,
        name: str,
        run: BatchRun[Item, Result],
        *,
        executor: Executor,
        limits: BatchLimits,
        observer: BatchObserver,
    ) -> None:
        rows = limits.max_batch_rows
        scheduler = Scheduler(executor)
        super().__init__(name, run, Policy("thread", rows, rows), limits, observer, turns=scheduler)
        scheduler.adopt(self)
