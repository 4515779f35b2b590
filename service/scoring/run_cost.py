"""What a run costs: a + b * rows seconds, fitted to measurements and kept up to date by the runs themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_NEWEST_WEIGHT = 0.1
"""Weight of the newest run in the moving average."""

_MOST_AT_ONCE = 10.0
"""A run that took longer than so many times the average counts as that: one hiccup must not close the door for long."""


@dataclass(frozen=True, slots=True)
class RunCost:
    """``a_s``: seconds of a run however small. ``b_s``: seconds of a row."""

    a_s: float
    b_s: float

    def seconds(self, rows: int, runs: float = 1) -> float:
        """Of so many rows in so many runs."""
        return self.a_s * runs + self.b_s * rows


def fit_cost(timings: Sequence[tuple[int, float]]) -> RunCost:
    """The cost that fits (rows, seconds) best: least squares of the relative errors, neither part below zero.

    Of two unknowns, one of which may be zero, there are three candidates: both free, no start-up cost, no cost of a row
    (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23).

    Raises:
        ValueError: no timings, or a row count or a time that is not a finite number above zero.
    """
    table = np.array(timings, np.float64).reshape(-1, 2)
    if not len(table) or not (np.isfinite(table) & (table > 0)).all():
        raise ValueError("a cost is fitted to at least one pair of rows and seconds, all finite and above zero")
    rows, seconds = table.T
    # Each equation a + b * rows = seconds is divided by its seconds, so that short runs count as much as long ones.
    start, row, one = 1 / seconds, rows / seconds, np.ones(len(rows))
    candidates = [np.array([start @ one / (start @ start), 0.0]), np.array([0.0, row @ one / (row @ row)])]
    if len(np.unique(rows)) > 1:
        both = np.linalg.lstsq(np.stack([start, row], axis=1), one, rcond=None)[0]
        candidates = [both] if (both >= 0).all() else candidates
    else:
        candidates = candidates[1:]  # one size cannot tell the two apart: all of it is the rows'
    best = min(candidates, key=lambda cost: float(np.sum((start * cost[0] + row * cost[1] - one) ** 2)))
    return RunCost(float(best[0]), float(best[1]))


def measure(run_rows: Callable[[int], None], sizes: Sequence[int], repeats: int) -> dict[int, float]:
    """Seconds by number of rows: the shortest of ``repeats`` runs each, in rounds over the sizes, after one round for warmth.

    Raises:
        ValueError: ``repeats`` is below one.
    """
    if repeats < 1:
        raise ValueError(f"at least one repeat is needed, not {repeats}")
    for rows in sizes:
        run_rows(rows)
    shortest = dict.fromkeys(sizes, float("inf"))
    for _ in range(repeats):
        for rows in sizes:
            started_at = time.perf_counter()
            run_rows(rows)
            shortest[rows] = min(shortest[rows], time.perf_counter() - started_at)
    return shortest


class LearnedCost:
    """A cost that follows what is measured: a fitted one by a factor, without one the mean cost of a row.

    Before anything is known everything costs nothing, so that nobody is refused by a guess.
    """

    __slots__ = ("_a_s", "_b_s", "_factor")

    def __init__(self, fitted: RunCost | None = None) -> None:
        self._a_s = fitted.a_s if fitted else 0.0
        self._b_s = fitted.b_s if fitted else 1.0
        self._factor = 1.0 if fitted else 0.0

    def seconds(self, rows: int, runs: float = 1) -> float:
        """Of so many rows in so many runs."""
        return (self._a_s * runs + self._b_s * rows) * self._factor

    def learn(self, rows: int, seconds: float) -> None:
        """A run of so many rows took so long."""
        expected = self._a_s + self._b_s * rows
        if expected <= 0:
            return
        newest = seconds / expected
        known = self._factor
        if not known:
            self._factor = newest
        else:
            self._factor = known + _NEWEST_WEIGHT * (min(newest, _MOST_AT_ONCE * known) - known)
