"""Which rows train, validate and test: by moments of the table or of each user."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.views import Split
from models.training.split import TEST, TRAIN, VALID, SplitEmptyError, check_parts, part_sizes, split_rows

rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=1, max_size=60)
shares = st.sampled_from([0.1, 0.2, 0.25, 0.4])


def split(rule, pairs):
    users, ranks = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return split_rows(rule, users, ranks).tolist()


def slowly(rule, pairs):
    """The rule in words: in each group the last shares of rows, pulled earlier so that equal times stay together."""
    groups = defaultdict(list)
    for place, (user, rank) in enumerate(pairs):
        groups[user if rule.by == "position" else 0].append((rank, place))
    parts = [TRAIN] * len(pairs)
    for group in groups.values():
        group.sort()
        tested = int(len(group) * rule.test + 0.5)
        held_out = tested + int(len(group) * rule.valid + 0.5)
        for count, part in ((held_out, VALID), (tested, TEST)):
            for rank, place in group:
                if count and rank >= group[len(group) - count][0]:
                    parts[place] = part
    return parts


@given(rows, st.sampled_from(["time", "position"]), shares, shares)
def test_rows_fall_where_the_slow_rule_puts_them(pairs, by, valid, test):
    rule = Split(by=by, valid=valid, test=test)
    assert split(rule, pairs) == slowly(rule, pairs)


@given(rows, st.sampled_from(["time", "position"]), shares, shares)
def test_equal_times_stay_together_and_parts_follow_each_other(pairs, by, valid, test):
    parts = split(Split(by=by, valid=valid, test=test), pairs)
    for one, (user, rank) in zip(parts, pairs, strict=True):
        for other, (user_too, rank_too) in zip(parts, pairs, strict=True):
            if by == "time" or user == user_too:
                assert one == other if rank == rank_too else (one <= other or rank > rank_too)


def test_without_ties_the_parts_have_their_shares():
    by_time = split(Split(valid=0.1, test=0.2), [(0, rank) for rank in range(50)])
    assert by_time == [TRAIN] * 35 + [VALID] * 5 + [TEST] * 10
    by_position = split(Split(by="position", valid=0.1, test=0.1), [(user, rank) for rank in range(10) for user in (4, 2)])
    assert by_position == [TRAIN] * 16 + [VALID] * 2 + [TEST] * 2


def test_a_user_of_few_rows_trains_only():
    assert split(Split(by="position", valid=0.1, test=0.1), [(0, 1), (0, 2), (0, 3), (0, 4)]) == [TRAIN] * 4


def test_an_empty_part_is_named_with_all_sizes():
    rule = Split()
    parts = split_rows(rule, np.zeros(5, np.int64), np.zeros(5, np.int64))
    assert part_sizes(parts) == {"train": 0, "valid": 0, "test": 5}
    with pytest.raises(SplitEmptyError, match=r"by time leaves no rows for train and valid \(train 0, valid 0, test 5\)"):
        check_parts(rule, parts)
