"""Which policy is chosen for which measurements."""

import pytest

from service.scoring.policies import Policy, choose_policy
from service.scoring.run_cost import RunCost


def timings(a_s, b_s, sizes=(32, 64, 128, 256, 512, 1024)):
    return {rows: a_s + b_s * rows for rows in sizes}


def test_the_tile_is_the_largest_that_is_nearly_the_cheapest_per_row():
    alone = {64: 64e-6, 128: 104e-6, 256: 200e-6, 512: 405e-6, 1024: 900e-6, 32: 20e-6}
    policy = choose_policy(alone, "cpu")
    assert (policy.where, policy.tile_rows) == ("inline", 512)


def test_a_request_is_not_divided_where_a_larger_run_is_as_cheap():
    assert choose_policy(timings(30e-6, 0.43e-6, (64, 256, 1024, 2048)), "cpu").tile_rows == 2048


def test_no_tile_keeps_the_event_loop_longer_than_two_milliseconds():
    assert choose_policy(timings(500e-6, 10e-6), "cpu").tile_rows == 128
    assert choose_policy(timings(0.0, 60e-6), "cpu").tile_rows == 64


@pytest.mark.parametrize(("seconds", "where"), [(0.0019, "inline"), (0.0079, "inline"), (0.0081, "thread"), (0.04, "thread")])
def test_a_model_whose_smallest_tile_takes_long_is_given_a_thread(seconds, where):
    policy = choose_policy({32: seconds / 2, 64: seconds, 128: 2 * seconds}, "cpu")
    assert (policy.where, policy.tile_rows) == (where, 64)


def test_only_measured_tiles_that_are_not_tiny_decide_about_a_thread():
    assert choose_policy({32: 0.02}, "cpu").where == "inline"
    policy = choose_policy({32: 0.02, 256: 0.009}, "cpu")
    assert (policy.where, policy.tile_rows) == ("thread", 256)


@pytest.mark.parametrize(("together", "merge_rows"), [((20e-6, 0.4e-6), 128), ((25e-6, 0.5e-6), 75), ((50e-6, 0.5e-6), 0)])
def test_small_requests_are_merged_up_to_the_size_where_it_still_pays(together, merge_rows):
    alone = timings(20e-6, 0.4e-6, (64, 128, 256))
    policy = choose_policy(alone, "cpu", together=timings(*together))
    assert policy.tile_rows == 256
    assert policy.merge_rows == pytest.approx(merge_rows, abs=1)
    assert policy.merge is (merge_rows > 0)
    if policy.merge:
        two_alone, two_together = 2 * (20e-6 + 0.4e-6 * policy.merge_rows), together[0] + 2 * together[1] * policy.merge_rows
        assert two_together <= two_alone


def test_a_gpu_gets_large_batches_on_a_thread():
    assert choose_policy(timings(1e-3, 0.0 + 1e-9), "cuda") == Policy(
        "thread", 1024, 1024, RunCost(*map(pytest.approx, (1e-3, 1e-9)))
    )


def test_impossible_policies_are_refused():
    with pytest.raises(ValueError, match="tile_rows of at least 1"):
        Policy("inline", 0, 0)
    with pytest.raises(ValueError, match="finite and above zero"):
        choose_policy({}, "cpu")
