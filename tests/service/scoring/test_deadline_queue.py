"""The queue against an independent one: a plain list, sorted whenever it is asked."""

from hypothesis import given, settings
from hypothesis import strategies as st

from service.scoring.deadline_queue import DeadlineQueue

PUSH = st.tuples(st.just("push"), st.integers(1, 50), st.integers(0, 5))
WITHDRAW = st.tuples(st.just("withdraw"), st.integers(0, 200), st.none())
TAKE = st.tuples(st.just("take"), st.integers(1, 80), st.none())


def slow_take(waiting, max_rows):
    """By deadline, then arrival; stop at the first that does not fit, but never empty-handed."""
    taken = []
    for entry in sorted(waiting, key=lambda entry: (entry[2], entry[0])):
        if taken and sum(each[1] for each in taken) + entry[1] > max_rows:
            break
        taken.append(entry)
        if sum(each[1] for each in taken) >= max_rows:
            break
    return taken


@settings(deadline=None)
@given(st.lists(st.one_of(PUSH, PUSH, WITHDRAW, TAKE), max_size=300))
def test_it_agrees_with_a_sorted_list(actions):
    queue, waiting, places, arrivals = DeadlineQueue(), [], {}, 0
    for action, number, deadline in actions:
        if action == "push":
            places[arrivals] = queue.push(arrivals, rows=number, deadline=deadline)
            waiting.append((arrivals, number, deadline))
            arrivals += 1
        elif action == "withdraw" and number in places:
            queue.withdraw(places[number])
            waiting = [entry for entry in waiting if entry[0] != number]
        elif action == "take":
            taken = slow_take(waiting, number)
            assert queue.take(number) == [entry[0] for entry in taken]
            waiting = [entry for entry in waiting if entry not in taken]
        assert len(queue) == len(waiting)
        assert queue.rows == sum(entry[1] for entry in waiting)
    assert queue.take_all() == [entry[0] for entry in sorted(waiting, key=lambda entry: (entry[2], entry[0]))]
    assert (len(queue), queue.rows, queue.take(1), queue.take_all()) == (0, 0, [], [])
