"""The fitted cost against scipy's solver; what is learned afterwards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from service.scoring.run_cost import LearnedCost, RunCost, fit_cost, measure

TIMINGS = st.lists(
    st.tuples(st.integers(1, 5_000), st.floats(1e-6, 1.0)), min_size=2, max_size=12, unique_by=lambda timing: timing[0]
)


@given(TIMINGS)
def test_the_fit_is_the_best_of_those_that_are_not_negative(timings):
    rows, seconds = np.array(timings, float).T
    _, best = nnls(np.stack([1 / seconds, rows / seconds], axis=1), np.ones(len(rows)))
    cost = fit_cost(timings)
    assert min(cost.a_s, cost.b_s) >= 0
    assert np.linalg.norm((cost.a_s + cost.b_s * rows) / seconds - 1) <= best + 1e-6


def test_exact_timings_are_found_again():
    cost = fit_cost([(rows, 20e-6 + rows * 0.4e-6) for rows in (50, 200, 500)])
    assert (cost.a_s, cost.b_s) == (pytest.approx(20e-6), pytest.approx(0.4e-6))
    assert cost.seconds(300, runs=2) == pytest.approx(160e-6)


def test_one_size_alone_is_laid_to_the_rows():
    assert fit_cost([(100, 0.01), (100, 0.01)]) == RunCost(0.0, pytest.approx(1e-4))


@pytest.mark.parametrize("timings", [[], [(0, 1.0)], [(1, 0.0)], [(1, float("nan"))], [(1, float("inf"))], [(-1, 1.0)]])
def test_what_is_no_timing_is_refused(timings):
    with pytest.raises(ValueError, match="finite and above zero"):
        fit_cost(timings)


def test_measuring_warms_up_once_and_goes_round_the_sizes():
    ran = []
    shortest = measure(ran.append, (10, 20), repeats=2)
    assert ran == [10, 20] * 3
    assert set(shortest) == {10, 20}
    assert all(0 <= seconds < 1 for seconds in shortest.values())
    with pytest.raises(ValueError, match="at least one repeat"):
        measure(ran.append, (10,), repeats=0)


def test_a_fitted_cost_follows_by_a_factor_and_one_hiccup_counts_little():
    cost = LearnedCost(RunCost(1.0, 0.1))
    cost.learn(10, 4.0)  # twice the expected
    assert cost.seconds(10) == pytest.approx(2.0 * 1.1)
    cost.learn(10, 1e6)
    assert cost.seconds(10) == pytest.approx(2.0 * 1.1 * 1.9)


def test_without_a_fit_nothing_costs_anything_until_a_run_was_seen():
    cost = LearnedCost()
    assert cost.seconds(1_000, runs=5) == 0
    cost.learn(10, 5.0)
    assert cost.seconds(4, runs=7) == pytest.approx(2.0)
