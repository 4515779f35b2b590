"""Exchanges end in time, by one timer, and a limit never swallows a cancellation that is another's."""

import asyncio
import time

import pytest

from feature_store.redis.exchange_limits import ExchangeLimits


async def limited(limits, wait):
    with limits.begin():
        return await wait


async def test_one_that_takes_too_long_ends_by_timeout_and_its_task_goes_on():
    limits = ExchangeLimits(0.02)

    async def twice():
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await limited(limits, asyncio.sleep(60))
        await asyncio.sleep(0)  # no cancellation is left over
        return time.monotonic() - began, asyncio.current_task().cancelling()

    async with asyncio.timeout(10):
        for took, cancelling in await asyncio.gather(twice(), twice(), twice()):
            assert took >= 0.018
            assert cancelling == 0


async def test_each_has_its_own_time_though_there_is_one_timer():
    limits = ExchangeLimits(0.1)
    first = asyncio.create_task(limited(limits, asyncio.sleep(0, "first")))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    second = asyncio.create_task(limited(limits, asyncio.sleep(60)))
    assert await first == "first"
    with pytest.raises(TimeoutError):
        await second
    assert time.monotonic() - began >= 0.098


async def test_without_a_limit_or_once_stopped_nothing_ends():
    assert await limited(ExchangeLimits(None), asyncio.sleep(0.01, "done")) == "done"
    limits = ExchangeLimits(0.01)
    waiting = asyncio.create_task(limited(limits, asyncio.sleep(0.05, "done")))
    await asyncio.sleep(0)
    limits.stop()
    assert await waiting == "done"


async def test_anothers_cancellation_stays_one_even_if_the_time_is_up_as_well():
    limits = ExchangeLimits(60.0)
    for expires in (False, True):
        waiting = asyncio.create_task(limited(limits, asyncio.sleep(60)))
        await asyncio.sleep(0)
        (limit,) = limits._under_way
        waiting.cancel()
        if expires:
            limit.expire()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    limits.stop()
