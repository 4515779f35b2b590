"""The batcher is judged by its failures: who is scored, who is not, and that nobody waits for ever."""

import asyncio
import gc
import math
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace

import pytest

from service.scoring import batcher as batcher_module
from service.scoring.batcher import Batcher, BatchLimits
from service.scoring.errors import DeadlinePassedError, OverloadedError, ScorerClosedError, ScoringFailedError
from tests.service.scoring.stand_ins import RecordingObserver, SteppedExecutor

POISON = "poison"


class Doubler:
    """Doubles its items; raises when the poison is among them."""

    def __init__(self):
        self.runs = []

    def __call__(self, items):
        self.runs.append(list(items))
        if POISON in items:
            raise RuntimeError("no such row")
        return [item * 2 for item in items]

    @property
    def executed(self):
        return [item for run in self.runs for item in run]


class Clock:
    """Time as the test says it; shared by the batcher and the event loop's timers."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now

    async def advance(self, seconds):
        self.now += seconds
        await turns()


class House:
    """A batcher with everything around it under the test's control."""

    def __init__(self, clock, run=None, max_batch_rows=100, max_queue_rows=1_000):
        self.clock = clock
        self.run = run or Doubler()
        self.executor = SteppedExecutor()
        self.observer = RecordingObserver()
        limits = BatchLimits(max_batch_rows, max_queue_rows)
        self.batcher = Batcher("m@1", self.run, executor=self.executor, limits=limits, observer=self.observer)

    async def ask(self, item, rows=1, timeout_s=60.0):
        """A caller, started as far as it gets."""
        task = asyncio.create_task(self.batcher.submit(item, rows=rows, deadline=self.clock.now + timeout_s))
        await turns()
        return task

    async def step(self):
        self.executor.step()
        await turns()

    async def serve_all(self):
        while self.executor.waiting:
            await self.step()


async def turns(count=4):
    for _ in range(count):
        await asyncio.sleep(0)


async def value(task):
    return (await task).result


@pytest.fixture
async def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(batcher_module, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    complaints = []
    gc.freeze()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    yield clock
    gc.collect()
    gc.unfreeze()
    await turns()
    assert complaints == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
def house(clock):
    return House(clock)


async def test_an_idle_scorer_is_given_work_at_once(house):
    first = await house.ask(1)
    assert len(house.executor.waiting) == 1
    await house.step()
    assert await value(first) == 2


async def test_batches_form_only_while_a_run_is_in_progress(house):
    callers = [await house.ask(item) for item in (1, 2, 3, 4)]
    await house.serve_all()
    assert [await value(caller) for caller in callers] == [2, 4, 6, 8]
    assert house.run.runs == [[1], [2, 3, 4]]


async def test_a_batch_is_limited_in_rows_and_a_larger_request_goes_alone(clock):
    house = House(clock, max_batch_rows=100)
    callers = [await house.ask(item, rows) for item, rows in ((1, 1), (2, 60), (3, 40), (4, 1), (5, 500), (6, 99))]
    await house.serve_all()
    await asyncio.gather(*callers)
    assert house.run.runs == [[1], [2, 3], [4], [5], [6]]


async def test_the_earliest_deadline_goes_first_and_ties_go_by_arrival(clock):
    house = House(clock, max_batch_rows=2)
    callers = [await house.ask(item, timeout_s=timeout_s) for item, timeout_s in ((1, 9), (2, 9), (3, 5), (4, 9), (5, 5))]
    await house.serve_all()
    await asyncio.gather(*callers)
    assert house.run.runs == [[1], [3, 5], [2, 4]]


async def test_a_full_queue_refuses_before_any_work_and_says_when_to_come_back(clock):
    house = House(clock, max_queue_rows=100)
    house.run = slow = SlowRun(clock, seconds_per_row=0.5)
    house.batcher._run = slow
    first = await house.ask(1, rows=10)
    await house.serve_all()
    running, waiting = await house.ask(2, rows=10), await house.ask(3, rows=90)
    with pytest.raises(OverloadedError, match="90 rows wait, 11 more would pass the limit of 100") as refused:
        await house.batcher.submit(4, rows=11, deadline=clock.now + 60)
    assert refused.value.retry_after_s == pytest.approx(100 * 0.5 * 0.1)
    assert house.batcher.waiting_rows == 90
    fits = await house.ask(5, rows=10)
    await house.serve_all()
    await asyncio.gather(first, running, waiting, fits)
    assert 4 not in slow.executed


async def test_an_empty_queue_takes_a_request_larger_than_its_limit(clock):
    house = House(clock, max_queue_rows=10)
    callers = [await house.ask(1), await house.ask(2, rows=5_000)]
    await house.serve_all()
    assert [await value(caller) for caller in callers] == [2, 4]


class SlowRun(Doubler):
    def __init__(self, clock, seconds_per_row):
        super().__init__()
        self.clock = clock
        self.seconds_per_row = seconds_per_row

    def __call__(self, items):
        self.clock.now += 10 * self.seconds_per_row * len(items)
        return super().__call__(items)


@pytest.mark.parametrize("late_by", [0.0, 0.001, math.nan, math.inf])
async def test_a_request_past_its_deadline_is_refused_and_never_run(house, late_by):
    for _ in range(1_250):
        with pytest.raises(DeadlinePassedError):
            await house.batcher.submit(1, rows=1, deadline=house.clock.now - late_by)
    assert not house.executor.waiting
    assert house.run.runs == []


async def test_a_waiting_caller_wakes_at_its_deadline_while_a_run_hangs(house):
    hanging, waiting = await house.ask(1), await house.ask(2, timeout_s=0.05)
    await house.clock.advance(0.049)
    assert not waiting.done()
    await house.clock.advance(0.001)
    with pytest.raises(DeadlinePassedError):
        await waiting
    assert house.batcher.waiting_rows == 0
    await house.serve_all()
    assert await value(hanging) == 2
    assert house.run.executed == [1]


async def test_a_caller_whose_item_is_being_run_wakes_at_its_deadline_and_its_neighbour_is_answered(house):
    first, late, patient = await house.ask(1), await house.ask(2, timeout_s=0.05), await house.ask(3)
    await house.step()
    finish = house.executor.start()
    await house.clock.advance(0.05)
    with pytest.raises(DeadlinePassedError):
        await late
    finish()
    assert await value(first) == 2
    assert await value(patient) == 6


async def test_a_batch_that_waited_for_a_thread_is_not_run_for_those_who_expired_meanwhile(house):
    first, late, patient = await house.ask(1), await house.ask(2, timeout_s=0.05), await house.ask(3)
    await house.step()
    await house.clock.advance(0.05)
    with pytest.raises(DeadlinePassedError):
        await late
    await house.serve_all()
    await asyncio.gather(first, patient)
    assert house.run.runs == [[1], [3]]


async def test_a_batch_that_waited_for_a_thread_is_not_run_for_those_who_left_meanwhile(house):
    first, leaver, patient = await house.ask(1), await house.ask(2), await house.ask(3)
    await house.step()
    leaver.cancel()
    await house.serve_all()
    await asyncio.gather(first, patient)
    assert house.run.runs == [[1], [3]]


async def test_a_deadline_counts_even_while_the_event_loop_is_too_busy_to_notice(house):
    first, late, patient = await house.ask(1), await house.ask(2, timeout_s=0.05), await house.ask(3)
    await house.step()
    house.clock.now += 0.05
    house.executor.step()
    with pytest.raises(DeadlinePassedError):
        await late
    await asyncio.gather(first, patient)
    assert house.run.runs == [[1], [3]]


async def test_a_thousand_callers_who_left_are_not_run(house):
    running = await house.ask(0)
    leaving = [await house.ask(item) for item in range(1, 501)]
    staying = await house.ask(1_000)
    leaving += [await house.ask(item) for item in range(501, 1_000)]
    for caller in leaving:
        caller.cancel()
    await turns()
    assert house.batcher.waiting_rows == 1
    await house.serve_all()
    assert await value(running) == 0
    assert await value(staying) == 2_000
    assert house.run.executed == [0, 1_000]


@pytest.mark.parametrize("leaver", [0, 1, 2, 3])
async def test_a_caller_cancelled_during_its_run_disturbs_nobody(house, leaver):
    first = await house.ask(-1)
    callers = [await house.ask(item) for item in range(4)]
    await house.step()
    callers.pop(leaver).cancel()
    await house.serve_all()
    await first
    assert [await value(caller) for caller in callers] == [item * 2 for item in range(4) if item != leaver]


@pytest.mark.parametrize("point", range(12))
async def test_cancelling_at_any_point_leaves_nothing_behind(house, point):
    async def serve():
        while True:
            await asyncio.sleep(0)
            if house.executor.waiting:
                house.executor.step()

    server = asyncio.create_task(serve())
    callers = [asyncio.create_task(house.batcher.submit(item, rows=1, deadline=house.clock.now + 9)) for item in (1, 2, 3)]
    await turns(point)
    callers[1].cancel()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [outcomes[0].result, outcomes[2].result] == [2, 6]
    assert house.batcher.waiting_rows == 0
    last = await value(asyncio.create_task(house.batcher.submit(7, rows=1, deadline=house.clock.now + 9)))
    assert last == 14
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    await house.batcher.drain()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 32, 33])
async def test_one_poisonous_request_fails_alone_at_a_logarithmic_price(house, size):
    for place in range(size):
        house.run.runs.clear()
        items = [POISON if n == place else n for n in range(size)]
        running = await house.ask(0)
        callers = [await house.ask(item) for item in items]
        await house.serve_all()
        await running
        for item, caller in zip(items, callers, strict=True):
            if item == POISON:
                with pytest.raises(ScoringFailedError, match="m@1: RuntimeError: no such row"):
                    await caller
            else:
                assert await value(caller) == item * 2
        further = len(house.run.runs) - 2
        assert further <= 2 * math.ceil(math.log2(size))
    assert house.observer.failed["m@1"] == size


async def test_while_a_failing_batch_is_halved_those_who_left_are_not_run_again(house):
    def fail_and_cancel(items):
        house.run(items)
        callers[0].cancel()
        house.clock.now += 1
        raise RuntimeError("broken")

    first = await house.ask(0)
    house.batcher._run = fail_and_cancel
    callers = [await house.ask(1), await house.ask(2, timeout_s=0.5), await house.ask(3)]
    await house.serve_all()
    outcomes = await asyncio.gather(first, *callers, return_exceptions=True)
    kinds = [type(outcome) for outcome in outcomes[1:]]
    assert kinds == [asyncio.CancelledError, DeadlinePassedError, ScoringFailedError]
    assert house.run.executed[-2:] != [1, 2]


@pytest.mark.parametrize(
    "broken",
    [lambda items: [], lambda items: [1] * (len(items) + 1), lambda items: 1 / 0, lambda items: None],
    ids=["too few", "too many", "raises", "nothing"],
)
async def test_it_serves_on_after_a_batch_in_which_everything_failed(house, broken):
    house.batcher._run = broken
    callers = [await house.ask(item) for item in (1, 2, 3)]
    await house.serve_all()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ScoringFailedError}
    assert len({id(outcome) for outcome in outcomes}) == 3
    house.batcher._run = house.run
    healthy = await house.ask(5)
    await house.serve_all()
    assert await value(healthy) == 10


async def test_a_scorer_that_exits_its_thread_fails_its_batch_and_no_other(house):
    def leave(items):
        raise SystemExit("out")

    house.batcher._run = leave
    doomed = await house.ask(1)
    house.batcher._run = house.run
    healthy = await house.ask(2)
    house.batcher._run = leave
    await house.step()
    house.batcher._run = house.run
    await house.serve_all()
    with pytest.raises(ScoringFailedError, match="SystemExit: out"):
        await doomed
    assert await value(healthy) == 4


async def test_an_error_that_the_scorer_pins_on_one_item_costs_no_further_run(house):
    first = await house.ask(0)
    house.batcher._run = lambda items: [*house.run(items[:-1]), ScoringFailedError("its scores are not finite")]
    callers = [await house.ask(item) for item in (1, 2, 3)]
    house.batcher._run, pinning = house.run, house.batcher._run
    await house.step()
    house.batcher._run = pinning
    await house.step()
    await first
    assert [await value(caller) for caller in callers[:2]] == [2, 4]
    with pytest.raises(ScoringFailedError, match="not finite"):
        await callers[2]
    assert house.run.runs == [[0], [1, 2]]
    assert house.observer.failed["m@1"] == 1


async def test_draining_answers_everyone_and_takes_nothing_new(house):
    callers = [await house.ask(item) for item in (1, 2)]
    draining = asyncio.create_task(house.batcher.drain())
    await turns()
    with pytest.raises(ScorerClosedError):
        await house.batcher.submit(3, rows=1, deadline=house.clock.now + 1)
    assert not draining.done()
    await house.serve_all()
    await draining
    assert [await value(caller) for caller in callers] == [2, 4]


async def test_draining_an_idle_batcher_ends_at_once(house):
    await house.batcher.drain()


async def test_closing_fails_who_waits_and_answers_who_is_being_run(house):
    running, waiting = await house.ask(1), await house.ask(2)
    house.batcher.close()
    await turns()
    with pytest.raises(ScorerClosedError):
        await waiting
    await house.serve_all()
    assert await value(running) == 2
    assert house.run.executed == [1]
    await house.batcher.drain()


async def test_an_executor_that_is_gone_fails_everyone_and_hangs_nobody(house):
    running, waiting = await house.ask(1), await house.ask(2)
    house.executor.cancel_all()
    await turns()
    for caller in (running, waiting):
        with pytest.raises(ScorerClosedError):
            await caller
    with pytest.raises(ScorerClosedError):
        await house.batcher.submit(3, rows=1, deadline=house.clock.now + 1)
    await house.batcher.drain()


async def test_what_a_departed_caller_sent_is_freed_while_the_run_still_hangs(house):
    class Payload:
        def __mul__(self, factor):
            return self

    hanging = await house.ask(1)
    payloads = [Payload() for _ in range(500)]
    watched = [weakref.ref(payload) for payload in payloads]
    callers = [await house.ask(payload) for payload in payloads]
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    payloads.clear()
    callers.clear()
    del caller
    gc.collect()
    assert not any(ref() for ref in watched)
    assert len(house.batcher._queue._heap) < 100
    await house.serve_all()
    await hanging


async def test_an_unused_batcher_is_freed_without_the_cycle_collector(clock):
    gc.disable()
    try:
        house = House(clock)
        callers = [await house.ask(1), await house.ask(POISON), await house.ask(3)]
        await house.serve_all()
        await asyncio.gather(*callers, return_exceptions=True)
        del callers
        watched = weakref.ref(house.batcher)
        del house
        await turns()
        assert watched() is None
    finally:
        gc.enable()


async def test_the_observer_hears_of_batches_and_of_the_queue(house):
    callers = [await house.ask(item, rows=10) for item in (1, 2, 3)]
    await house.serve_all()
    await asyncio.gather(*callers)
    assert house.observer.batches == [("m@1", 1, 10), ("m@1", 2, 20)]
    assert house.observer.depths == [0, 10, 20, 0, 0]


async def test_an_answer_tells_how_long_it_waited_and_how_long_the_run_took(house):
    house.batcher._run = SlowRun(house.clock, seconds_per_row=0.1)
    first, second = await house.ask(1), await house.ask(2)
    await house.serve_all()
    first, second = await asyncio.gather(first, second)
    assert (first.queue_s, first.run_s) == (0.0, pytest.approx(1.0))
    assert (second.queue_s, second.run_s) == (pytest.approx(1.0), pytest.approx(1.0))


async def test_a_slow_model_does_not_keep_the_only_thread_from_its_neighbours():
    order, release = [], Event()

    def run_of(name):
        def run(items):
            release.wait()
            order.append(name)
            return items

        return run

    loop = asyncio.get_running_loop()
    limits = BatchLimits(max_batch_rows=1, max_queue_rows=100)
    with ThreadPoolExecutor(max_workers=1) as executor:
        models = [Batcher(name, run_of(name), executor=executor, limits=limits, observer=RecordingObserver()) for name in "abc"]
        callers = [
            asyncio.create_task(model.submit(0, rows=1, deadline=loop.time() + 30))
            for model, requests in zip(models, (6, 2, 2), strict=True)
            for _ in range(requests)
        ]
        await turns()
        release.set()
        await asyncio.gather(*callers)
    assert order[:6] == ["a", "b", "c", "a", "b", "c"]


@pytest.mark.parametrize("limits", [(0, 1), (1, 0), (-1, 1)])
def test_limits_below_one_row_are_refused(limits):
    with pytest.raises(ValueError, match="must be at least 1"):
        BatchLimits(*limits)


async def test_a_submission_without_rows_is_refused(house):
    with pytest.raises(ValueError, match="at least one row"):
        await house.batcher.submit(1, rows=0, deadline=house.clock.now + 1)
