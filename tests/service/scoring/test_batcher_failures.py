"""The batcher is judged by its failures: only the culprit fails, everyone is answered, and it serves on."""

import asyncio
import math

import pytest

from service.scoring.errors import ScorerClosedError, ScoringFailedError
from tests.service.scoring.batcher_house import POISON, turns, value


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
