"""Callers who leave, by cancellation or at their deadline: never run, never in the way, never remembered."""

import asyncio
import gc
import math
import time
import weakref

import pytest
import uvloop

from service.scoring.errors import DeadlinePassedError, ScoringFailedError
from tests.service.scoring.batcher_house import Doubler, turns, value
from tests.service.scoring.stand_ins import RecordingObserver, SteppedExecutor
from tests.service.scoring.thread_batcher import Batcher, BatchLimits


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


@pytest.mark.parametrize("new_event_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_deadlines_mean_the_same_moment_on_either_event_loop(new_event_loop):
    async def ask_with_and_without_time():
        batcher = Batcher("m@1", Doubler(), executor=executor, limits=BatchLimits(9, 9), observer=RecordingObserver())
        patient = asyncio.create_task(batcher.submit(1, rows=1, deadline=time.monotonic() + 60))
        await turns()
        with pytest.raises(DeadlinePassedError):
            await batcher.submit(2, rows=1, deadline=time.monotonic() + 0.05)
        assert not patient.done()
        executor.step()
        return await value(patient)

    executor = SteppedExecutor()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(ask_with_and_without_time()) == 2
