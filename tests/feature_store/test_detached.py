"""Detached calls: no cancellation reaches them, their number is bounded, nothing they raise is lost loudly."""

import asyncio
import gc

import pytest

from feature_store.detached import DetachedCalls
from feature_store.errors import StoreUnavailableError


class Call:
    """A call that waits to be released, and remembers whether it was cancelled."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.started = asyncio.Event()
        self.outcome = "running"

    async def __call__(self) -> str:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise
        self.outcome = "done"
        return "answer"


async def test_the_answer_reaches_the_caller():
    calls, call = DetachedCalls(1), Call()
    call.release.set()
    assert await calls.run(call) == "answer"
    await asyncio.sleep(0)
    assert calls.outstanding == 0


@pytest.mark.parametrize("steps", range(4))
async def test_cancelling_the_caller_at_any_step_leaves_the_call_running_to_its_end(steps):
    calls, call = DetachedCalls(1), Call()
    caller = asyncio.create_task(calls.run(call))
    for _ in range(steps + 1):
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert calls.outstanding == 1
    call.release.set()
    await calls.close()
    assert call.outcome == "done"
    assert calls.outstanding == 0


async def test_calls_beyond_the_limit_are_refused_at_once_even_when_the_callers_of_the_others_have_gone():
    calls, call = DetachedCalls(2), Call()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(calls.run(call), 0.001)
    with pytest.raises(StoreUnavailableError) as refusal:
        await calls.run(Call())
    assert refusal.value.reason == "pool_exhausted"
    call.release.set()
    await calls.close()


async def test_an_error_nobody_waits_for_is_not_reported_as_lost():
    lost = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    calls = DetachedCalls(1)

    async def fails():
        await asyncio.sleep(0.005)
        raise StoreUnavailableError("timeout")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(calls.run(fails), 0.001)
    await asyncio.sleep(0.01)
    gc.collect()
    assert not lost


async def test_after_close_calls_are_refused():
    calls = DetachedCalls(1)
    await calls.close()
    with pytest.raises(StoreUnavailableError) as refusal:
        await calls.run(Call())
    assert refusal.value.reason == "closed"
