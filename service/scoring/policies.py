"""Where and in what portions a model is run: on the event loop in small tiles, or on a thread in large batches.

On a CPU a thread costs more than it saves, unless the smallest tile would hold the event loop for long. A request that is
divided pays for each tile's start and for cutting and joining, so tiles are as large as the event loop can bear and the caches
do not make them dear. On a GPU a launch costs the same
for one row and for a thousand, and the event loop must not wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service.scoring.run_cost import RunCost, fit_cost

Where = Literal["inline", "thread"]

_NEAR_BEST = 1.05
"""A size whose row costs at most this much more than the cheapest is as good; the largest such divides the fewest requests."""

_MIN_TILE_ROWS = 64

_MOST_MERGED_ROWS = 128
"""Larger requests are never merged on a CPU: what is saved is a run's start, and by then that is small."""

_MAX_TILE_S = 0.002
"""How long a tile may keep the event loop from everything else, in seconds."""

_MAX_SMALLEST_TILE_S = 4 * _MAX_TILE_S
"""Where the smallest tile takes longer, a thread is wanted. Four times: up to there a thread would hardly free the event loop
sooner, as operating systems hand a shared core on after some milliseconds, and what is measured on a busy machine may well be
twice the truth."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """``max_batch_rows``: rows of one run. ``max_queue_rows``: rows that may wait."""

    max_batch_rows: int
    max_queue_rows: int

    def __post_init__(self) -> None:
        for name, rows in (("max_batch_rows", self.max_batch_rows), ("max_queue_rows", self.max_queue_rows)):
            if rows < 1:
                raise ValueError(f"{name} must be at least 1, not {rows}")


@dataclass(frozen=True, slots=True)
class Policy:
    """How one model is run.

    ``tile_rows``: rows of one run; larger requests are divided where that is possible, and go alone where it is not.
    ``merge_rows``: requests of at most so many rows are merged, larger ones run alone; 0 merges nothing.
    ``cost``: of a run, as measured before the first request; None leaves it to be learned.
    """

    where: Where
    tile_rows: int
    merge_rows: int
    cost: RunCost | None = None

    def __post_init__(self) -> None:
        if self.tile_rows < 1 or self.merge_rows < 0:
            raise ValueError(f"a policy needs tile_rows of at least 1 and merge_rows of at least 0, not {self}")

    @property
    def merge(self) -> bool:
        """Whether small requests are merged at all."""
        return self.merge_rows > 0


def choose_policy(
    alone: Mapping[int, float],
    provider: Literal["cpu", "cuda"],
    *,
    together: Mapping[int, float] | None = None,
) -> Policy:
    """The policy for a model whose runs took so long: seconds by rows of one request, and of several requests in one run.

    ``together`` None means that a run does not care how many requests its rows are of.

    Raises:
        ValueError: nothing was measured, or a size or a time is not above zero.
    """
    cost = fit_cost(list(alone.items()))
    shared = cost if together is None else fit_cost(list(together.items()))
    if provider == "cuda":
        rows = max(alone)
        return Policy("thread", rows, rows, shared)
    tile_rows = _tile_rows(alone)
    where: Where = "thread" if alone.get(tile_rows, 0.0) > _MAX_SMALLEST_TILE_S else "inline"
    return Policy(where, tile_rows, _merge_rows(cost, shared, tile_rows), cost)


def _tile_rows(alone: Mapping[int, float]) -> int:
    """The largest size that is nearly the cheapest per row, among those that neither are tiny nor take too long.

    Where all take too long it is the smallest that is not tiny.
    """
    large = [rows for rows in alone if rows >= _MIN_TILE_ROWS]
    fit = [rows for rows in large if alone[rows] <= _MAX_TILE_S]
    if not fit:
        return min(large, default=_MIN_TILE_ROWS)
    best = min(alone[rows] / rows for rows in fit)
    return max(rows for rows in fit if alone[rows] / rows <= best * _NEAR_BEST)


def _merge_rows(alone: RunCost, shared: RunCost, tile_rows: int) -> int:
    """Up to which size two requests in one run are cheaper than two runs; more than two then are cheaper still.

    2 * (a1 + b1 * rows) > a2 + 2 * b2 * rows, solved for the rows of each; never more than half a tile, nor than
    ``_MOST_MERGED_ROWS``: where the two costs hardly differ, their fits say anything.
    """
    saved_s = 2 * alone.a_s - shared.a_s
    if saved_s <= 0:
        return 0
    dearer_s = 2 * (shared.b_s - alone.b_s)
    rows = math.inf if dearer_s <= 0 else saved_s / dearer_s
    return int(min(rows, tile_rows // 2, _MOST_MERGED_ROWS))
