"""Who may join a line: what is refused at the door, and what it costs to know."""

import pytest

from service.scoring.admission import Admission
from service.scoring.deadline_queue import DeadlineQueue
from service.scoring.errors import DeadlinePassedError, OverloadedError
from service.scoring.run_cost import LearnedCost, RunCost

NOW = 1_000.0


class NothingElse:
    """No run in progress and no other model."""

    def flying_s(self):
        return 0.0

    def others_s(self, own_s):
        return 0.0


def line_of(*entries):
    """Of (how many, rows of each, seconds until due)."""
    line = DeadlineQueue()
    for number, rows, due_s in entries:
        for _ in range(number):
            line.push(object(), rows=rows, deadline=NOW + due_s)
    return line


def check(line, rows, due_s, **rules):
    cost = LearnedCost(RunCost(0.0, 0.001))
    rules = {"name": "m", "tile_rows": 64, "max_queue_rows": 100_000, "merges": True, "cost": cost} | rules
    Admission(**rules).check(line, rows, NOW + due_s, NOW, NothingElse())


def test_urgent_ones_pass_the_patient_and_are_refused_behind_the_urgent():
    check(line_of((5_000, 2, 60.0)), 10, 0.05)
    # Forty rows take 40 ms, a fifth of 250 ms is 50.
    check(line_of((20, 2, 0.04), (5_000, 2, 60.0)), 10, 0.25)
    with pytest.raises(OverloadedError, match="too near their deadline"):
        check(line_of((30, 2, 0.04), (5_000, 2, 60.0)), 10, 0.25)


def test_where_too_many_are_due_before_to_be_counted_the_whole_line_decides():
    """600 rows in 300 entries would leave room, but to know that is more work than a refusal may be."""
    with pytest.raises(OverloadedError, match="too near their deadline"):
        check(line_of((300, 2, 0.5), (5_000, 2, 60.0)), 10, 3.1)
    check(line_of((300, 2, 0.5)), 10, 3.1)


def test_no_more_requests_wait_than_may_however_few_their_rows():
    line = line_of((9_999, 1, 60.0))
    check(line, 1, 60.0)
    line.push(object(), rows=1, deadline=NOW + 60.0)
    with pytest.raises(OverloadedError, match="10000 requests wait") as refused:
        check(line, 1, 60.0)
    assert refused.value.retry_after_s == pytest.approx(10.0)


def test_too_many_rows_and_a_deadline_that_has_passed_are_refused():
    with pytest.raises(OverloadedError, match="pass the limit of 30"):
        check(line_of((1, 20, 60.0)), 11, 60.0, max_queue_rows=30)
    check(line_of(), 40, 0.001, max_queue_rows=30)
    for due_s in (0.0, float("nan")):
        with pytest.raises(DeadlinePassedError):
            check(line_of(), 1, due_s)
