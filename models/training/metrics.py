"""Metrics of scored rows. Group-wise ones are vectorized: a data set has millions of rows and thousands of groups.

A metric that the rows do not define (AUC with one class, NDCG without a group of both classes) is None, never a made-up number.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support, roc_auc_score

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]

Monitor = Literal["auc", "gauc", "logloss"]
NDCG_PLACES = 10


class MetricError(ValueError):
    """The rows or their scores do not give the metric; the message says why."""


@dataclass(frozen=True, slots=True)
class RankingMetrics:
    """What a set of scored rows says. ``rows`` and ``positives`` are counts; the rest are means or areas."""

    rows: int
    positives: int
    auc: float | None
    gauc: float | None
    logloss: float
    ndcg_at_10: float | None
    accuracy: float
    precision: float
    recall: float
    f1: float

    def to_json(self) -> dict[str, float | None]:
        """Name to value."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """What metrics need to know of each row besides its score; all arrays [rows]."""

    labels: Floats
    users: npt.NDArray[Any]
    groups: Ints

    def measure(self, logits: Floats) -> RankingMetrics:
        """All metrics of the logits [rows]; the threshold of accuracy, precision, recall and F1 is a probability of 0.5.

        Raises:
            MetricError: there are no rows, or a logit is not finite.
        """
        if not len(self.labels):
            raise MetricError("no rows to measure")
        if not np.isfinite(logits).all():
            raise MetricError("a logit is not finite: training diverged (lower the learning rate)")
        positive = self.labels > 0.5
        predicted = logits > 0
        precision, recall, f1, _ = precision_recall_fscore_support(positive, predicted, average="binary", zero_division=0)
        return RankingMetrics(
            rows=len(positive),
            positives=int(positive.sum()),
            auc=float(roc_auc_score(positive, logits)) if _has_both(positive) else None,
            gauc=gauc(positive, logits, self.users),
            logloss=float(log_loss(positive, probabilities(logits), labels=[False, True])),
            ndcg_at_10=ndcg(positive, logits, self.groups, NDCG_PLACES),
            accuracy=float(accuracy_score(positive, predicted)),
            precision=float(precision),
            recall=float(recall),
            f1=float(f1),
        )


def probabilities(logits: Floats) -> npt.NDArray[np.float64]:
    """The logistic function in float64, without overflow at large negative logits."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))


def gauc(positive: Bools, scores: Floats, users: npt.NDArray[Any]) -> float | None:
    """Mean over users with both classes of each user's AUC, weighted by the user's rows (Zhu et al., 2017, section 4.2).

    AUC is the Mann-Whitney statistic of average ranks, so equal scores count half. None when no user has both classes.
    """
    order = np.lexsort((scores, users))
    runs = _Runs.of(users[order])
    ranks = _average_ranks(runs, scores[order])
    hits = positive[order]
    positives = runs.sums(hits)
    negatives = runs.sizes - positives
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return None
    won = runs.sums(ranks * hits) - positives * (positives + 1) / 2
    areas = won[both] / (positives[both] * negatives[both])
    return float(np.average(areas, weights=runs.sizes[both]))


def ndcg(positive: Bools, scores: Floats, groups: Ints, places: int) -> float | None:
    """Mean NDCG at ``places`` over the groups with both classes, gain 1 for a positive (Jarvelin and Kekalainen, 2002).

    Equal scores share the mean of their discounts, so that the order of the table cannot help (as scikit-learn's
    ``ndcg_score`` does). Groups of one class say nothing about an order and are left out. None when none is left.
    """
    order = np.lexsort((-scores, groups))
    runs = _Runs.of(groups[order])
    hits = positive[order].astype(np.float64)
    positives = runs.sums(hits)
    both = (positives > 0) & (positives < runs.sizes)
    if not both.any():
        return None
    discounted = np.zeros(int(runs.sizes.max()) + 1)
    top = np.arange(min(places, len(discounted) - 1))
    discounted[1 : len(top) + 1] = 1 / np.log2(top + 2)
    discounted = discounted.cumsum()  # [k] = sum of the discounts of the first k places
    ties = _Runs.of(runs.labels(), scores[order])
    first = ties.starts - runs.starts[runs.labels()[ties.starts]]
    share = (discounted[first + ties.sizes] - discounted[first]) / ties.sizes
    gained = runs.sums(hits * np.repeat(share, ties.sizes))
    return float(np.mean(gained[both] / discounted[positives[both].astype(np.int64)]))


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of equal neighbours in sorted arrays."""

    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, *columns: npt.NDArray[Any]) -> _Runs:
        """Runs over which every column stays equal."""
        changed = np.zeros(len(columns[0]), dtype=bool)
        changed[:1] = True
        for column in columns:
            changed[1:] |= column[1:] != column[:-1]
        starts = np.flatnonzero(changed)
        return cls(starts, np.diff(starts, append=len(changed)))

    def sums(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The sum of each run."""
        return np.add.reduceat(values.astype(np.float64), self.starts)

    def labels(self) -> npt.NDArray[np.int64]:
        """The run of each place."""
        return np.repeat(np.arange(len(self.starts)), self.sizes)


def _average_ranks(runs: _Runs, scores: Floats) -> npt.NDArray[np.float64]:
    """Rank within its run of each score, from 1, equal scores sharing their mean; scores ascend within each run."""
    labels = runs.labels()
    ties = _Runs.of(labels, scores)
    first = ties.starts - runs.starts[labels[ties.starts]]
    return np.repeat(first + (ties.sizes + 1) / 2, ties.sizes)


def _has_both(positive: Bools) -> bool:
    return bool(positive.any() and not positive.all())


def monitored(metrics: RankingMetrics, monitor: Monitor) -> float:
    """The value of the metric that early stopping watches.

    Raises:
        MetricError: the rows do not define it.
    """
    value: float | None = getattr(metrics, monitor)
    if value is None:
        raise MetricError(f"monitor: the valid rows do not define {monitor}: no user's rows have both classes")
    return value
