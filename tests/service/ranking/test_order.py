"""Whatever way is taken, the order is that of a stable sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ranking.order import best_first


def slow(scores, count):
    """Python's own sort, which is stable."""
    return sorted(range(len(scores)), key=lambda place: -float(scores[place]))[:count]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_order_is_that_of_a_stable_sort_however_many_scores_are_equal(data):
    rows = data.draw(st.sampled_from([1, 2, 50, 700, 701, 1_500, 5_000]))
    count = data.draw(st.integers(1, rows) | st.just(rows) | st.integers(1, min(rows, 20)))
    levels = data.draw(st.integers(1, 6) | st.just(10**6))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scores = (rng.integers(-levels, levels, rows, endpoint=True) / levels).astype(dtype)
    assert best_first(scores, count).tolist() == slow(scores, count)


@pytest.mark.parametrize("rows", [8, 2_000])
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_zeros_of_both_signs_are_equal_and_the_extremes_are_in_their_places(rows, share):
    special = np.array([0.0, -0.0, 3.4e38, -3.4e38, 1e-45, -1e-45, 1.0, -1.0], dtype=np.float32)
    scores = np.resize(special, rows)
    count = max(1, int(rows * share))
    assert best_first(scores, count).tolist() == slow(scores, count)


@pytest.mark.parametrize("count", [3, 2_000])
def test_the_scores_themselves_are_left_as_they_are(count):
    scores = np.linspace(-1, 1, 2_000, dtype=np.float32)
    before = scores.copy()
    best_first(scores, count)
    assert scores.tobytes() == before.tobytes()
