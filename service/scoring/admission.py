"""Who may join a model's line: not beyond its limits in rows and requests, and not to be scored after the deadline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from service.scoring.deadline_queue import DeadlineQueue
from service.scoring.errors import DeadlinePassedError, OverloadedError
from service.scoring.run_cost import LearnedCost

_SHARE_OF_TIME_LEFT = 0.2
"""A line may take this share of the time that a request has left. What is counted is scoring alone: reading, encoding and
answering of all who wait take as long and longer, and the client's clock started before ours. A longer line would be served to
the end, and every answer of it too late."""

_MOST_COUNTED = 256
"""Requests that are counted to know how many rows are due before another; a refusal must cost little where many are refused."""


class Load(Protocol):
    """What there is beside the line."""

    def flying_s(self) -> float:
        """What this model's run in progress will still take."""

    def others_s(self, own_s: float) -> float:
        """What other models get of the thread or event loop while this one is given ``own_s`` of it."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules of one line. ``merges``: whether several requests share a run. ``max_queue_requests``: how many may wait."""

    name: str
    tile_rows: int
    max_queue_rows: int
    merges: bool
    cost: LearnedCost
    max_queue_requests: int = 10_000

    def check(self, line: DeadlineQueue[Any], rows: int, deadline: float, now: float, load: Load) -> None:
        """Refuse what would be wasted work.

        An empty line takes any one request: an estimate that is too high would else never be corrected by a run.

        Raises:
            DeadlinePassedError: the deadline is not after ``now``.
            OverloadedError: too many requests or rows wait, or their runs will take too long.
        """
        if not deadline > now:  # also refuses NaN, which has no place in the order
            raise DeadlinePassedError(f"{self.name}: the deadline had passed before the request was queued")
        waiting = line.rows
        if not waiting:
            return
        if waiting + rows > self.max_queue_rows:
            self._refuse(f"{waiting} rows wait, {rows} more would pass the limit of {self.max_queue_rows}", line, load)
        if len(line) >= self.max_queue_requests:
            self._refuse(f"{len(line)} requests wait, which is the limit", line, load)
        if self._fits(line, waiting, rows, (now, deadline), load):
            return
        # Only those who are due no later are served before: the patient ones do not keep an urgent one out.
        # Where those are too many to be counted, it is refused for the whole line: too early rather than for nothing.
        before = line.rows_before(deadline, _MOST_COUNTED)
        if not self._fits(line, waiting if before is None else before, rows, (now, deadline), load):
            self._refuse(f"{waiting} rows wait, {rows} more would be scored too near their deadline or after it", line, load)

    def backlog_s(self, line: DeadlineQueue[Any]) -> float:
        """Seconds of work that wait."""
        return self.cost.seconds(line.rows, self._runs(line, line.rows)) if line else 0.0

    def next_run_s(self, line: DeadlineQueue[Any]) -> float:
        """Seconds that the next run may take."""
        return self.cost.seconds(min(line.rows, self.tile_rows))

    def _fits(self, line: DeadlineQueue[Any], before: int, rows: int, time: tuple[float, float], load: Load) -> bool:
        """Whether ``before`` rows take no more than their share of ``time`` (now, deadline), and these no more than all."""
        now, deadline = time
        waits_s = self._wait_s(line, before, 0, load) if before else 0.0
        if waits_s > (deadline - now) * _SHARE_OF_TIME_LEFT:
            return False
        return now + self._wait_s(line, before, rows, load) <= deadline

    def _refuse(self, reason: str, line: DeadlineQueue[Any], load: Load) -> NoReturn:
        raise OverloadedError(f"{self.name}: {reason}", retry_after_s=self._wait_s(line, line.rows, 0, load))

    def _wait_s(self, line: DeadlineQueue[Any], waiting: int, rows: int, load: Load) -> float:
        """Until ``rows`` more are scored after ``waiting``: the run in progress, the line, and what others get meanwhile."""
        own_s = load.flying_s() + self.cost.seconds(waiting + rows, self._runs(line, waiting) + bool(rows))
        return own_s + load.others_s(own_s)

    def _runs(self, line: DeadlineQueue[Any], rows: int) -> float:
        """How many runs so many of the rows that wait will need."""
        tiles = math.ceil(rows / self.tile_rows)
        return tiles if self.merges else max(tiles, len(line) * rows / line.rows)
