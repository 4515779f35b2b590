"""Waits end in time and not before, by one timer, and nothing is kept of those that ended."""

import asyncio
import math
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.errors import StoreUnavailableError
from feature_store.expiry import Expiry


@dataclass
class Wait:
    answer: asyncio.Future
    deadline: float


def wait_of(seconds):
    return Wait(asyncio.get_running_loop().create_future(), time.monotonic() + seconds)


async def reason(wait):
    with pytest.raises(StoreUnavailableError) as error:
        await wait.answer
    return error.value.reason


async def test_every_wait_ends_by_its_own_deadline_in_whatever_order_they_came():
    waits = [wait_of(0.03), wait_of(0.01), wait_of(math.inf), wait_of(0.02), wait_of(5.0)]
    expiry = Expiry(lambda: waits)
    for wait in waits:
        expiry.watch(wait.deadline)
    for wait in (waits[1], waits[3], waits[0]):
        assert await reason(wait) == "timeout"
        assert time.monotonic() >= wait.deadline - 0.002
    assert not waits[2].answer.done()
    assert not waits[4].answer.done()
    expiry.stop()


async def test_a_wait_that_has_ended_is_left_as_it_is():
    answered, gone, late = wait_of(0.01), wait_of(0.01), wait_of(0.02)
    expiry = Expiry(lambda: [answered, gone, late])
    for wait in (answered, gone, late):
        expiry.watch(wait.deadline)
    answered.answer.set_result("answer")
    gone.answer.cancel()
    assert await reason(late) == "timeout"
    assert await answered.answer == "answer"


async def test_a_wait_whose_time_was_up_before_ends_at_once():
    wait = wait_of(-1.0)
    expiry = Expiry(lambda: [wait])
    expiry.watch(wait.deadline)
    assert not wait.answer.done()
    assert await reason(wait) == "timeout"


async def test_stopped_it_ends_nothing():
    wait = wait_of(0.005)
    expiry = Expiry(lambda: [wait])
    expiry.watch(wait.deadline)
    expiry.stop()
    await asyncio.sleep(0.02)
    assert not wait.answer.done()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-2, 20), min_size=1, max_size=20))
def test_no_wait_is_forgotten_however_the_deadlines_fall(milliseconds):
    async def all_end():
        waits = [wait_of(each / 1e3) for each in milliseconds]
        expiry = Expiry(lambda: waits)
        for wait in waits:
            expiry.watch(wait.deadline)
        async with asyncio.timeout(10):
            await asyncio.gather(*(reason(wait) for wait in waits))

    asyncio.run(all_end())
