"""Whoever waits anyway shares an exchange; nobody waits for others to come, is lost, or pays for another."""

import asyncio

import pytest

from feature_store.breaker import BreakerRule, CircuitBreaker
from feature_store.coalescing import Coalescer, CoalescingRule
from feature_store.errors import StoreUnavailableError
from feature_store.records import feature_record
from feature_store.stored import StoredRecords

PATIENT = CoalescingRule(exchanges=4, outstanding=100, queue_timeout_s=10.0, questions=8, keys=40, patience_s=10.0)


class Exchanges:
    """Holds every exchange until it is let go, in any order."""

    def __init__(self):
        self.begun = []
        self.ends = []
        self.second = asyncio.Event()

    async def __call__(self, questions):
        end = asyncio.get_running_loop().create_future()
        self.begun.append([question.user_id for question in questions])
        self.ends.append(end)
        if len(self.ends) == 2:
            self.second.set()
        trouble = await end
        if trouble:
            raise trouble
        return [StoredRecords(feature_record(each.user_id, 0.0, {}), None, {}) for each in questions]

    async def end(self, number, trouble=None):
        self.ends[number].set_result(trouble)
        await steps()


class Probe(CircuitBreaker):
    """Counts the questions that are reported as abandoned."""

    def __init__(self):
        super().__init__(BreakerRule())
        self.abandonments = 0

    def abandoned(self):
        self.abandonments += 1
        super().abandoned()


async def steps(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def exchanges():
    return Exchanges()


def coalescer(exchanges, rule=PATIENT):
    return Coalescer(exchanges, rule, Probe())


def ask(reads, *users, items=(), timeout_s=None):
    return [reads.ask(user, items, timeout_s) for user in users]


def reason_of(answer):
    return answer.exception().reason


async def test_all_that_are_asked_in_one_step_leave_together_at_its_end(exchanges):
    reads = coalescer(exchanges)
    answers = ask(reads, "a", "b", "c")
    assert exchanges.begun == []
    await steps(2)
    assert exchanges.begun == [["a", "b", "c"]]
    await exchanges.end(0)
    assert [answer.result().user.owner for answer in answers] == ["a", "b", "c"]
    assert reads.outstanding == 0


async def test_those_asked_while_an_exchange_is_under_way_leave_when_it_ends(exchanges):
    reads = coalescer(exchanges)
    ask(reads, "a")
    await steps()
    for user in ("b", "c"):
        ask(reads, user)
        await steps()
    assert exchanges.begun == [["a"]]
    await exchanges.end(0)
    assert exchanges.begun == [["a"], ["b", "c"]]


async def test_an_exchange_that_takes_long_keeps_nobody(exchanges):
    reads = coalescer(exchanges, CoalescingRule(2, 100, 10.0, patience_s=0.005))
    ask(reads, "a")
    await steps()
    ask(reads, "b", "c")
    async with asyncio.timeout(5):
        await exchanges.second.wait()
    assert exchanges.begun == [["a"], ["b", "c"]]


async def test_an_exchange_carries_no_more_questions_or_keys_than_it_may_and_the_next_leaves_beside_it(exchanges):
    reads = coalescer(exchanges)
    ask(reads, *"abcdefghij")
    await steps()
    assert exchanges.begun == [list("abcdefgh")]  # the rest is no full load
    ask(reads, "k", "l", items=["item"] * 30)
    await steps()
    assert exchanges.begun[1:] == [["i", "j", "k"]]  # 2 + 2 + 32 keys; another 32 would be too many
    ask(reads, "m", items=["item"] * 1_000)
    await steps()
    assert exchanges.begun[2:] == [["l"], ["m"]]  # one that asks for more than that goes alone
    ask(reads, *"nopqrstuv")
    await steps()
    assert len(exchanges.begun) == 4


async def test_one_that_goes_away_takes_nobody_along_and_is_not_asked_for_any_more(exchanges):
    reads = coalescer(exchanges)
    under_way = ask(reads, "a", "b")
    await steps()
    waiting = ask(reads, "c", "d")
    under_way[0].cancel()
    waiting[0].cancel()
    await exchanges.end(0)
    assert exchanges.begun[1:] == [["d"]]
    await exchanges.end(1)
    assert (under_way[1].result().user.owner, waiting[1].result().user.owner) == ("b", "d")
    assert (reads.outstanding, reads._breaker.abandonments) == (0, 1)


async def test_trouble_is_told_to_all_of_the_exchange_and_to_no_other(exchanges):
    reads = coalescer(exchanges)
    first = ask(reads, "a", "b")
    await steps()
    second = ask(reads, "c")
    trouble = StoreUnavailableError("disconnected", "the peer is gone")
    trouble.__cause__ = EOFError()
    await exchanges.end(0, trouble)
    await exchanges.end(1)
    assert [reason_of(answer) for answer in first] == ["disconnected", "disconnected"]
    assert second[0].result().user.owner == "c"
    one, other = (answer.exception() for answer in first)
    assert one is not other
    assert str(one) == str(other) == "feature store unavailable: disconnected: the peer is gone"
    assert isinstance(one.__cause__, EOFError)
    unexpected = ask(reads, "d")
    await steps()
    await exchanges.end(2, RuntimeError("a fault of our own"))
    assert isinstance(unexpected[0].exception(), RuntimeError)


async def test_each_has_its_own_time_whether_it_waits_or_is_under_way(exchanges):
    reads = coalescer(exchanges)
    slow, quick = *ask(reads, "a", timeout_s=5.0), *ask(reads, "b", timeout_s=0.01)
    await steps()
    queued = ask(reads, "c", timeout_s=0.01)[0]
    async with asyncio.timeout(5):
        await asyncio.wait({quick, queued})
    assert (reason_of(quick), reason_of(queued), slow.done()) == ("timeout", "timeout", False)
    await exchanges.end(0)
    assert slow.result().user.owner == "a"
    assert (len(exchanges.begun), reads._breaker.abandonments) == (1, 1)


async def test_who_finds_no_place_for_long_is_refused_and_the_exchanges_go_on(exchanges):
    reads = coalescer(exchanges, CoalescingRule(1, 100, 0.01))
    under_way = ask(reads, "a")
    await steps()
    waiting = ask(reads, "b", "c")
    async with asyncio.timeout(5):
        await asyncio.wait(waiting)
    assert [reason_of(answer) for answer in waiting] == ["pool_exhausted"] * 2
    assert reads._breaker.abandonments == 2
    await exchanges.end(0)
    assert (under_way[0].result().user.owner, reads.outstanding) == ("a", 0)


async def test_no_more_are_outstanding_than_may_be_those_that_nobody_waits_for_included(exchanges):
    reads = coalescer(exchanges, CoalescingRule(1, 3, 10.0))
    answers = ask(reads, "a", "b", "c")
    await steps()
    answers[0].cancel()
    with pytest.raises(StoreUnavailableError, match="pool_exhausted"):
        ask(reads, "d")
    await exchanges.end(0)
    ask(reads, "d")
    assert reads.outstanding == 1


async def test_closing_waits_for_all_that_were_asked_and_refuses_the_next(exchanges):
    reads = coalescer(exchanges)
    answers = ask(reads, "a")
    await steps()
    answers += ask(reads, "b")
    closing = asyncio.create_task(reads.close())
    await steps()
    with pytest.raises(StoreUnavailableError, match="closed"):
        ask(reads, "c")
    await exchanges.end(0)
    assert not closing.done()
    await exchanges.end(1)
    await closing
    assert [answer.result().user.owner for answer in answers] == ["a", "b"]


async def test_a_loop_that_ends_cancels_those_that_wait(exchanges):
    reads = coalescer(exchanges)
    answers = ask(reads, "a")
    await steps()
    for task in list(reads._under_way):
        task.cancel()
    await steps()
    assert answers[0].cancelled()


class Busy:
    """Says what it is told to say, and counts how often it was asked."""

    def __init__(self):
        self.is_busy, self.asked = True, 0

    def __call__(self):
        self.asked += 1
        return self.is_busy


GATHERING = CoalescingRule(exchanges=4, outstanding=100, queue_timeout_s=10.0, questions=8, keys=40, gather_s=60.0)


async def test_while_all_is_busy_questions_gather_and_leave_together_as_soon_as_it_is_not(exchanges):
    busy = Busy()
    reads = Coalescer(exchanges, GATHERING, Probe(), busy)
    for user in "abc":
        ask(reads, user)
        await steps()
    assert exchanges.begun == []
    busy.is_busy = False
    await steps(2)
    assert exchanges.begun == [["a", "b", "c"]]


async def test_gathering_looks_once_a_step_and_not_at_all_without_questions(exchanges):
    busy = Busy()
    reads = Coalescer(exchanges, GATHERING, Probe(), busy)
    await steps(10)
    assert busy.asked == 0
    ask(reads, "a", "b")
    await steps(10)
    assert 9 <= busy.asked <= 11
    busy.is_busy = False
    await steps()
    asked = busy.asked
    await exchanges.end(0)
    await steps(10)
    assert busy.asked == asked


async def test_a_full_load_or_one_that_has_waited_leaves_however_busy_all_is(exchanges):
    reads = Coalescer(exchanges, GATHERING, Probe(), Busy())
    ask(reads, *"abcdefgh")
    await steps(2)
    assert exchanges.begun == [list("abcdefgh")]
    soon = Coalescer(exchanges, CoalescingRule(4, 100, 10.0, gather_s=0.003), Probe(), Busy())
    ask(soon, "i")
    async with asyncio.timeout(5):
        await exchanges.second.wait()
    assert exchanges.begun[1:] == [["i"]]


async def test_closing_waits_for_no_quiet_moment(exchanges):
    reads = Coalescer(exchanges, GATHERING, Probe(), Busy())
    answer = ask(reads, "a")[0]
    closing = asyncio.create_task(reads.close())
    await steps()
    await exchanges.end(0)
    async with asyncio.timeout(5):
        await closing
    assert answer.result().user.owner == "a"
