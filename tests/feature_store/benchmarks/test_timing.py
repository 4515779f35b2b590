"""Taking turns, and the spread of what was measured."""

import gc

import pytest

from feature_store.benchmarks.timing import Spread, in_turns, ratio


async def test_ways_take_turns_and_the_first_round_does_not_count():
    ran = []

    def way(name):
        async def run():
            ran.append(name)

        return run

    times = await in_turns(lambda: {name: way(name) for name in "abc"}, 4)
    assert {name: len(each) for name, each in times.items()} == {"a": 4, "b": 4, "c": 4}
    assert list(times) == ["a", "b", "c"]
    rounds = ["".join(ran[start : start + 3]) for start in range(0, len(ran), 3)]
    assert rounds == ["abc", "bca", "cab", "abc", "bca"]
    assert gc.get_freeze_count() == 0


def test_a_ratio_is_taken_round_by_round():
    times = {"ours": [1.0, 4.0, 2.0], "other": [10.0, 20.0, 10.0]}
    assert ratio(times, "ours", "other") == Spread(0.2, 0.15000000000000002, 0.2, 0.1, 0.2)


@pytest.mark.parametrize(
    ("values", "spread"),
    [([3.0], Spread(3, 3, 3, 3, 3)), ([5.0, 1.0, 2.0, 4.0, 3.0], Spread(3, 2, 4, 1, 5))],
)
def test_a_spread_has_median_quartiles_and_ends(values, spread):
    assert Spread.of(values) == spread
