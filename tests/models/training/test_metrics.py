"""Vectorized metrics against slow references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from models.training.metrics import LabelledRows, MetricError, gauc, monitored, ndcg, probabilities

rows = st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.sampled_from([-1.5, -0.25, 0.0, 0.25, 2.0, 3.0])), min_size=1, max_size=60
)


def slow_gauc(positive, scores, users):
    weighted, weight = 0.0, 0
    for user in set(users.tolist()):
        mine = users == user
        if len(set(positive[mine].tolist())) == 2:
            weighted += mine.sum() * roc_auc_score(positive[mine], scores[mine])
            weight += mine.sum()
    return weighted / weight if weight else None


def slow_ndcg(positive, scores, groups, places):
    values = [
        ndcg_score([positive[groups == group].astype(int)], [scores[groups == group]], k=places)
        for group in set(groups.tolist())
        if len(set(positive[groups == group].tolist())) == 2
    ]
    return float(np.mean(values)) if values else None


def columns(drawn):
    groups, positive, scores = map(np.array, zip(*drawn, strict=True))
    return positive.astype(bool), scores.astype(np.float64), groups.astype(np.int64)


@settings(max_examples=150, deadline=None)
@given(rows)
def test_gauc_is_the_row_weighted_mean_of_each_users_auc(drawn):
    positive, scores, users = columns(drawn)
    expected = slow_gauc(positive, scores, users)
    assert gauc(positive, scores, users) == (None if expected is None else pytest.approx(expected))


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(1, 12))
def test_ndcg_is_scikit_learns_with_ties_averaged_over_groups_of_both_classes(drawn, places):
    positive, scores, groups = columns(drawn)
    expected = slow_ndcg(positive, scores, groups, places)
    assert ndcg(positive, scores, groups, places) == (None if expected is None else pytest.approx(expected))


def test_users_may_be_text():
    users = np.array(["b", "a", "b", "a"])
    assert gauc(np.array([True, False, False, True]), np.array([2.0, 0.0, 1.0, 1.0]), users) == 1.0


def test_a_constant_score_gains_nothing_from_the_order_of_the_table():
    positive = np.array([True] * 10 + [False] * 90)
    constant = np.zeros(100)
    assert gauc(positive, constant, np.zeros(100, dtype=int)) == 0.5
    assert ndcg(positive, constant, np.zeros(100, dtype=int), 10) == pytest.approx(0.1)


def test_all_metrics_of_a_small_table_are_the_ones_worked_out_by_hand():
    labels = np.array([1.0, 0.0, 1.0, 0.0], dtype=np.float32)
    logits = np.array([2.0, 1.0, -1.0, -2.0], dtype=np.float32)
    metrics = LabelledRows(labels, users=np.array([1, 1, 2, 2]), groups=np.array([0, 0, 0, 0])).measure(logits)
    assert (metrics.rows, metrics.positives) == (4, 2)
    assert metrics.auc == pytest.approx(0.75)
    assert metrics.gauc == 1.0
    assert (metrics.accuracy, metrics.precision, metrics.recall, metrics.f1) == (0.5, 0.5, 0.5, 0.5)
    assert metrics.logloss == pytest.approx(log_loss(labels, 1 / (1 + np.exp(-logits.astype(float)))))
    assert metrics.ndcg_at_10 == pytest.approx((1 + 1 / 2) / (1 + 1 / np.log2(3)))


def test_metrics_that_one_class_cannot_define_are_none_and_cannot_be_monitored():
    metrics = LabelledRows(np.ones(3, dtype=np.float32), np.arange(3), np.zeros(3, dtype=int)).measure(np.zeros(3))
    assert (metrics.auc, metrics.gauc, metrics.ndcg_at_10) == (None, None, None)
    assert metrics.precision == 0.0
    with pytest.raises(MetricError, match="do not define gauc"):
        monitored(metrics, "gauc")


def test_a_diverged_score_is_refused():
    with pytest.raises(MetricError, match="not finite"):
        LabelledRows(np.ones(2, dtype=np.float32), np.arange(2), np.arange(2)).measure(np.array([0.0, np.nan]))


def test_extreme_logits_have_probabilities_without_overflow():
    assert probabilities(np.array([-2e4, 0.0, 2e4], dtype=np.float32)).tolist() == [0.0, 0.5, 1.0]
