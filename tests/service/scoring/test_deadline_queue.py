"""The queue against an independent one: a plain list, sorted whenever it is asked."""

from hypothesis import given, settings
from hypothesis import strategies as st

from service.scoring.deadline_queue import DeadlineQueue

PUSH = st.tuples(st.just("push"), st.integers(1, 50), st.integers(0, 5))
WITHDRAW = st.tuples(st.just("withdraw"), st.integers(0, 200), st.none())
COUNT = st.tuples(st.just("count"), st.integers(1, 40), st.integers(-1, 6))
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
@given(st.lists(st.one_of(PUSH, PUSH, WITHDRAW, TAKE, COUNT), max_size=300))
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
        elif action == "count":
            before = sum(entry[1] for entry in waiting if entry[2] <= deadline)
            assert queue.rows_before(deadline, 10_000) == before
            assert queue.rows_before(deadline, number) in (before, None)
        assert len(queue) == len(waiting)
        assert queue.rows == sum(entry[1] for entry in waiting)
    assert queue.take_all() == [entry[0] for entry in sorted(waiting, key=lambda entry: (entry[2], entry[0]))]
    assert (len(queue), queue.rows, queue.take(1), queue.take_all()) == (0, 0, [], [])


class CountingHeap(list):
    """Counts how many entries are looked at."""

    looks = 0

    def __getitem__(self, at):
        self.looks += 1
        return super().__getitem__(at)

    def __iter__(self):
        self.looks += len(self)
        return super().__iter__()


def looks_at(queue, deadline, most):
    """What ``rows_before`` says and how many entries it looked at."""
    queue._heap = CountingHeap(queue._heap)
    return queue.rows_before(deadline, most), queue._heap.looks


def test_counting_what_is_due_before_looks_at_few_entries_however_many_wait():
    queue = DeadlineQueue()
    for number in range(5_000):
        queue.push(number, rows=2, deadline=float(number))
    assert looks_at(queue, -1.0, 256) == (0, 1)
    assert looks_at(queue, 5_000.0, 256) == (10_000, 0)
    rows, looks = looks_at(queue, 99.0, 256)
    assert rows == 200
    assert 100 <= looks <= 201
    rows, looks = looks_at(queue, 2_500.0, 256)
    assert rows is None
    assert looks <= 2 * 256 + 1
