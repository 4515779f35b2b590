"""Shares by seconds: nobody is kept waiting by more than one turn of each other."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.scoring.fair_share import FairShare


@dataclass(eq=False)
class Model:
    turn_s: float
    served_s: float = 0.0
    given_s: float = 0.0


@given(st.lists(st.floats(0.001, 1.0), min_size=2, max_size=6), st.integers(1, 300))
def test_whoever_always_has_work_is_given_as_much_as_any_other_but_for_one_turn(turns, rounds):
    share, models = FairShare(), [Model(turn_s) for turn_s in turns]
    for model in models:
        share.join(model)
    for _ in range(rounds):
        model = share.next()
        share.begin(model)
        share.charge(model, model.turn_s)
        model.given_s += model.turn_s
    for one in models:
        for other in models:
            assert one.given_s - other.given_s <= one.turn_s + 1e-9


def test_a_newcomer_is_next_and_gains_nothing_from_having_been_idle():
    share, slow, fast = FairShare(), Model(1.0), Model(0.1)
    share.join(slow)
    for _ in range(100):
        share.begin(slow)
        share.charge(slow, slow.turn_s)
        assert share.next() is slow
    share.join(fast)
    order = []
    for _ in range(22):
        model = share.next()
        share.begin(model)
        order.append(model)
        share.charge(model, model.turn_s)
    assert order[0] is fast
    assert 1 <= order.count(slow) <= 3


def test_leaving_and_coming_back_at_once_does_not_wipe_out_what_one_was_given():
    share, slow, fast = FairShare(), Model(1.0), Model(0.1)
    share.join(slow)
    share.join(fast)
    order = []
    for _ in range(12):
        model = share.next()
        share.begin(model)
        share.leave(model)
        share.charge(model, model.turn_s)
        order.append(model)
        share.join(model)
    assert order.count(slow) <= 2
    assert FairShare().next() is None
