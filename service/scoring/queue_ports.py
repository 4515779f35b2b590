"""What a model's queue needs of others: the scheduler, and whoever counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from service.scoring.model_queue import ModelQueue


class BatchObserver(Protocol):
    """Told what happens, on the event loop, once a run; ``model`` is the queue's name."""

    def batch_scored(self, model: str, *, requests: int, rows: int, seconds: float) -> None:
        """A batch was run, with so many requests and rows in it, those that failed included.

        A request that is run in parts is counted with the first.
        """

    def requests_failed(self, model: str, *, requests: int) -> None:
        """So many requests could not be scored through their own fault or the scorer's."""


class Turns(Protocol):
    """What a queue needs of the scheduler."""

    def may_run_now(self, seconds: float) -> bool:
        """Whether a run that takes so long may start within ``submit``, on the event loop."""

    def ran_now(self, queue: ModelQueue[Any, Any], seconds: float) -> None:
        """Such a run took so long."""

    def wake(self, queue: ModelQueue[Any, Any]) -> None:
        """The queue has work."""

    def others_s(self, queue: ModelQueue[Any, Any], own_s: float) -> float:
        """Seconds that others get while this queue is given ``own_s``."""
