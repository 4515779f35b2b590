"""What was known when: no row ever sees its own moment or a later one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training.point_in_time import history_windows, time_ranks

moments = st.one_of(st.integers(-5, 5), st.floats(-2, 2).map(lambda number: round(number, 1)))
log = st.lists(st.tuples(st.integers(0, 3), moments, st.booleans()), min_size=1, max_size=40)


def slowly(rows, length):
    """For each row the numbers of the user's earlier events: newest ``length``, by time, ties in the table's order."""
    histories = []
    for user, time, _ in rows:
        earlier = [(t, place) for place, (u, t, event) in enumerate(rows) if event and u == user and t < time]
        histories.append([place for _, place in sorted(earlier)][-length:])
    return histories


def windows_of(rows, length):
    users, times, events = (np.array(column) for column in zip(*rows, strict=True))
    windows = history_windows(users.astype(np.int64), time_ranks(times), events.astype(bool), length)
    return [windows.events[start:end].tolist() for start, end in zip(windows.start, windows.end, strict=True)]


@given(log, st.integers(1, 5))
def test_histories_are_those_of_the_slow_rule(rows, length):
    assert windows_of(rows, length) == slowly(rows, length)


def test_an_event_at_the_same_moment_is_not_history():
    assert windows_of([(1, 5, True), (1, 5, True), (1, 6, False), (2, 9, False)], 9) == [[], [], [0, 1], []]


def test_equal_times_keep_the_order_of_the_table():
    assert windows_of([(1, 2, True), (1, 1, True), (1, 2, True), (1, 3, False)], 2) == [[1], [], [1], [0, 2]]


@given(st.lists(st.one_of(st.floats(allow_nan=False), st.sampled_from([0.0, -0.0])), min_size=1))
def test_ranks_order_as_times_do(times):
    ranks = time_ranks(np.array(times)).tolist()
    for one, first in zip(times, ranks, strict=True):
        for other, second in zip(times, ranks, strict=True):
            assert (one < other) == (first < second)


def test_a_log_without_events_gives_empty_histories():
    assert windows_of([(0, 1, False), (0, 2, False)], 3) == [[], []]


@pytest.mark.parametrize("length", [1, 50])
def test_a_window_is_never_longer_than_asked(length):
    rows = [(0, time, True) for time in range(100)]
    assert [len(history) for history in windows_of(rows, length)] == [min(time, length) for time in range(100)]
