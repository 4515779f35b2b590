"""How the batcher forms batches, bounds its queue and shares its thread."""

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from service.scoring.errors import OverloadedError
from tests.service.scoring.batcher_house import POISON, House, SlowRun, turns, value
from tests.service.scoring.stand_ins import RecordingObserver
from tests.service.scoring.thread_batcher import Batcher, BatchLimits


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
    house.run = slow = SlowRun(clock, seconds_per_row=0.05)
    house.batcher._run = slow
    first = await house.ask(1, rows=10)
    await house.serve_all()
    running, waiting = await house.ask(2, rows=10), await house.ask(3, rows=90)
    with pytest.raises(OverloadedError, match="90 rows wait, 11 more would pass the limit of 100") as refused:
        await house.batcher.submit(4, rows=11, deadline=clock.now + 60)
    assert refused.value.retry_after_s == pytest.approx(100 * 0.05)
    assert house.batcher.waiting_rows == 90
    fits = await house.ask(5, rows=10)
    await house.serve_all()
    await asyncio.gather(first, running, waiting, fits)
    assert 4 not in slow.executed


async def test_the_cost_of_a_row_is_a_moving_average(clock):
    house = House(clock, max_queue_rows=10)
    for seconds_per_row in (1.0, 2.0):
        house.batcher._run = SlowRun(clock, seconds_per_row)
        measured = await house.ask(1, rows=10)
        await house.serve_all()
        await measured
    callers = [await house.ask(2, rows=10), await house.ask(3, rows=10)]
    with pytest.raises(OverloadedError) as refused:
        await house.batcher.submit(4, rows=1, deadline=clock.now + 60)
    assert refused.value.retry_after_s == pytest.approx(20 * 1.1)
    await house.serve_all()
    await asyncio.gather(*callers)


async def test_an_empty_queue_takes_a_request_larger_than_its_limit(clock):
    house = House(clock, max_queue_rows=10)
    callers = [await house.ask(1), await house.ask(2, rows=5_000)]
    await house.serve_all()
    assert [await value(caller) for caller in callers] == [2, 4]


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


async def test_the_observer_hears_of_batches_and_the_queue_tells_its_depth_when_asked(house):
    depths = []
    callers = []
    for item in (1, 2, 3):
        callers.append(await house.ask(item, rows=10))
        depths.append(house.batcher.waiting_rows)
    await house.serve_all()
    await asyncio.gather(*callers)
    assert house.observer.batches == [("m@1", 1, 10), ("m@1", 2, 20)]
    assert [*depths, house.batcher.waiting_rows] == [0, 10, 20, 0]


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
