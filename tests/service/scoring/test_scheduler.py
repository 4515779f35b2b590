"""The inline policy, and what is shared between models: tiles, order, fairness, expiry, admission."""

import asyncio
import gc
import weakref
from itertools import chain
from operator import itemgetter

import pytest

from service.scoring.errors import DeadlinePassedError, OverloadedError, ScorerClosedError, ScoringFailedError
from service.scoring.policies import BatchLimits, Policy
from service.scoring.run_cost import RunCost
from service.scoring.scheduler import Scheduler
from service.scoring.submission import Division
from tests.service.scoring.batcher_house import turns
from tests.service.scoring.stand_ins import RecordingObserver, SteppedExecutor

ROWS = Division(lambda item, start, stop: (item[0], item[1][start:stop]), lambda parts: list(chain(*parts)))
"""Items are (name, list of rows); a result is the rows, each with the name."""


class Stage:
    """Models of one scheduler, a log of what ran in which round of the event loop, and callers."""

    def __init__(self, clock, *, where="inline", tile_rows=10, merge_rows=0, step_s=0.0, seconds_per_row=0.001, cost=None):
        self.clock = clock
        self.executor = SteppedExecutor()
        self.scheduler = Scheduler(self.executor, step_s=step_s)
        self.policy = Policy(where, tile_rows, merge_rows, cost)
        self.observer = RecordingObserver()
        self.log = []
        self.rounds = 0
        self.seconds_per_row = seconds_per_row
        self.models = {}

    def run(self, items):
        self.log.append((self.rounds, *((name, len(rows)) for name, rows in items)))
        self.clock.now += self.seconds_per_row * sum(len(rows) for _, rows in items)
        if any("poison" in name for name, _ in items):
            raise RuntimeError("no such row")
        return [[(name, row) for row in rows] for name, rows in items]

    def ask(self, name, rows, timeout_s=60.0, model="m"):
        queue = self.models.get(model)
        if queue is None:
            limits = BatchLimits(1_000, 1_000)
            queue = self.scheduler.queue(model, self.run, self.policy, limits, self.observer, division=ROWS)
            self.models[model] = queue
        item = (name, list(range(rows)))
        return asyncio.ensure_future(queue.submit(item, rows=rows, deadline=self.clock.now + timeout_s))

    async def pass_rounds(self, count):
        for _ in range(count):
            self.rounds += 1
            await asyncio.sleep(0)

    @property
    def ran(self):
        return [entry[1:] for entry in self.log]


def rows_of(name, rows):
    return [(name, row) for row in range(rows)]


async def test_a_request_that_meets_no_other_is_scored_without_giving_way(clock):
    stage = Stage(clock)
    asking = stage.scheduler.queue("m", stage.run, stage.policy, BatchLimits(9, 9), stage.observer).submit(
        ("a", [0, 1]), rows=2, deadline=clock.now + 1
    )
    with pytest.raises(StopIteration) as done:
        asking.send(None)
    assert done.value.value.result == rows_of("a", 2)
    assert (done.value.value.queue_s, done.value.value.run_s) == (0.0, pytest.approx(0.002))
    assert stage.observer.batches == [("m", 1, 2)]
    await stage.pass_rounds(2)


async def test_one_tile_a_round_with_everything_else_in_between(clock):
    stage = Stage(clock)
    callers = [stage.ask("large", 25), stage.ask("b", 3), stage.ask("c", 4)]
    await stage.pass_rounds(12)
    assert [len(entry) for entry in stage.log] == [2] * 5
    assert len({entry[0] for entry in stage.log}) == 5
    assert [(await caller).result for caller in callers] == [rows_of("large", 25), rows_of("b", 3), rows_of("c", 4)]
    # Tiles of equal size, though 10 would have fitted.
    assert stage.ran == [(("large", 9),), (("large", 8),), (("large", 8),), (("b", 3),), (("c", 4),)]
    assert stage.observer.batches == [("m", 1, 9), ("m", 0, 8), ("m", 0, 8), ("m", 1, 3), ("m", 1, 4)]


async def test_small_runs_share_a_round_up_to_its_seconds(clock):
    stage = Stage(clock, step_s=0.010, cost=RunCost(0.0, 0.001))
    callers = [stage.ask(name, 4) for name in "abcde"]
    await stage.pass_rounds(6)
    await asyncio.gather(*callers)
    by_round = [entry[0] for entry in stage.log]
    assert max(map(by_round.count, by_round)) == 2


async def test_a_caller_that_asks_again_and_again_still_gives_way(clock):
    stage = Stage(clock)
    first = stage.ask("a", 1)
    await first

    async def greedy():
        for _ in range(20):
            await stage.models["m"].submit(("g", [0]), rows=1, deadline=clock.now + 9)

    asking = asyncio.ensure_future(greedy())
    await stage.pass_rounds(3)
    assert not asking.done()
    await stage.pass_rounds(60)
    assert asking.done()


async def test_an_urgent_request_goes_before_the_next_tile_of_a_large_one(clock):
    stage = Stage(clock)
    large = stage.ask("large", 50)
    await stage.pass_rounds(3)
    assert 1 <= len(stage.log) < 4
    before = len(stage.log)
    urgent = stage.ask("urgent", 2, timeout_s=5.0)
    await stage.pass_rounds(12)
    assert "urgent" in [name for name, _ in map(itemgetter(0), stage.ran[: before + 2])]
    assert (await urgent).result == rows_of("urgent", 2)
    assert (await large).result == rows_of("large", 50)


@pytest.mark.parametrize(("merge_rows", "ran"), [(0, [1, 1, 1, 1, 1]), (4, [1, 2, 1, 1]), (10, [1, 2, 2])])
async def test_small_requests_are_merged_and_larger_ones_run_alone(clock, merge_rows, ran):
    stage = Stage(clock, merge_rows=merge_rows)
    callers = [stage.ask("first", 1)] + [stage.ask(name, rows) for name, rows in (("a", 4), ("b", 4), ("c", 5), ("d", 4))]
    await stage.pass_rounds(12)
    results = [(await caller).result for caller in callers]
    assert results[1:] == [rows_of("a", 4), rows_of("b", 4), rows_of("c", 5), rows_of("d", 4)]
    assert [len(entry) - 1 for entry in stage.log] == ran


async def test_what_expires_in_line_is_never_run_and_wakes_at_its_deadline(clock):
    stage = Stage(clock, seconds_per_row=0.01)
    callers = [stage.ask("large", 40), stage.ask("late", 2, timeout_s=60.05), stage.ask("patient", 2, timeout_s=70.0)]
    await stage.pass_rounds(1)
    clock.now += 60.05
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[:2]] == [DeadlinePassedError, DeadlinePassedError]
    assert outcomes[2].result == rows_of("patient", 2)
    assert "late" not in {entry[0][0] for entry in stage.ran}
    assert len([entry for entry in stage.ran if entry[0][0] == "large"]) <= 1


async def test_poison_in_one_part_fails_its_request_alone_and_its_rest_is_not_run(clock):
    stage = Stage(clock, merge_rows=10)
    callers = [stage.ask("poison", 30), stage.ask("a", 2), stage.ask("poison", 2), stage.ask("b", 2)]
    await stage.pass_rounds(15)
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[::2]] == [ScoringFailedError] * 2
    assert [outcome.result for outcome in outcomes[1::2]] == [rows_of("a", 2), rows_of("b", 2)]
    assert stage.ran.count((("poison", 10),)) == 1
    assert stage.observer.failed["m"] == 2


async def test_a_poisonous_request_alone_fails_within_submit(clock):
    stage = Stage(clock)
    with pytest.raises(ScoringFailedError, match="m: RuntimeError: no such row"):
        await stage.ask("poison", 2)
    assert (await stage.ask("a", 2)).result == rows_of("a", 2)


async def test_a_cancelled_request_leaves_with_its_remaining_tiles(clock):
    stage = Stage(clock)
    large, neighbour = stage.ask("large", 100), stage.ask("b", 3)
    await stage.pass_rounds(3)
    large.cancel()
    await stage.pass_rounds(5)
    assert (await neighbour).result == rows_of("b", 3)
    assert stage.scheduler.waiting_rows() == {"m": 0}
    assert len(stage.log) < 6


@pytest.mark.parametrize("where", ["inline", "thread"])
async def test_a_slow_model_delays_a_fast_one_by_one_run_at_most(clock, where):
    stage = Stage(clock, where=where, tile_rows=10)
    slow = [stage.ask("slow", 10, model="slow") for _ in range(20)]
    await stage.pass_rounds(2)
    if where == "thread":
        assert len(stage.executor.waiting) == 1
    before = len(stage.log)
    fast = [stage.ask("fast", 1, model="fast") for _ in range(20)]
    for _ in range(60):
        await stage.pass_rounds(3)
        if stage.executor.waiting:
            stage.executor.step()
    await asyncio.gather(*slow, *fast)
    names = [entry[0][0] for entry in stage.ran]
    first, last = names.index("fast"), len(names) - names[::-1].index("fast")
    # 20 runs of a tenth: as many seconds as two of the slow ones, give or take the one in progress at either end.
    assert names[first:last].count("slow") <= 3
    assert first - before <= 1


async def test_what_cannot_be_scored_in_time_is_refused_and_what_is_urgent_enough_is_not(clock):
    stage = Stage(clock, cost=RunCost(0.0, 0.001))
    callers = [stage.ask("a", 10), *(stage.ask("line", 10) for _ in range(10))]
    await stage.pass_rounds(1)
    waiting = stage.models["m"].waiting_rows
    assert waiting >= 80
    refused, due_first = stage.ask("refused", 10, timeout_s=0.05), stage.ask("urgent", 10, timeout_s=0.02)
    late = stage.ask("late", 1, timeout_s=60.001)
    outcomes = await asyncio.gather(refused, due_first, late, *callers, return_exceptions=True)
    assert all(not isinstance(outcome, Exception) for outcome in outcomes[:2])
    assert outcomes[2].result == rows_of("late", 1)


async def test_a_line_of_urgent_requests_refuses_the_next_one_with_the_time_to_come_back(clock):
    stage = Stage(clock, cost=RunCost(0.0, 0.001))
    callers = [stage.ask("a", 10), *(stage.ask("line", 10, timeout_s=0.6) for _ in range(10))]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="too near their deadline or after it") as refused:
        await stage.models["m"].submit(("x", list(range(600))), rows=600, deadline=1_000.0 + 0.6)
    assert 0.05 < refused.value.retry_after_s <= 0.11
    await stage.pass_rounds(40)
    await asyncio.gather(*callers)
    assert "x" not in {entry[0][0] for entry in stage.ran}


async def test_draining_waits_for_all_tiles_and_closing_fails_what_waits(clock):
    stage = Stage(clock)
    large = stage.ask("large", 40)
    await stage.pass_rounds(2)
    draining = asyncio.ensure_future(stage.models["m"].drain())
    await stage.pass_rounds(12)
    assert draining.done()
    assert len((await large).result) == 40
    with pytest.raises(ScorerClosedError):
        await stage.ask("b", 1)
    other = stage.ask("large", 40, model="n")
    await stage.pass_rounds(2)
    stage.models["n"].close()
    with pytest.raises(ScorerClosedError):
        await other


async def test_an_unused_inline_queue_is_freed_without_the_cycle_collector(clock):
    gc.disable()
    try:
        stage = Stage(clock)
        callers = [stage.ask("a", 30), stage.ask("poison", 3), stage.ask("b", 3)]
        await stage.pass_rounds(15)
        await asyncio.gather(*callers, return_exceptions=True)
        await asyncio.gather(stage.ask("poison", 3), return_exceptions=True)
        callers.clear()
        watched = weakref.ref(stage.models.pop("m"))
        await turns()
        assert watched() is None
        assert stage.scheduler.waiting_rows() == {}
    finally:
        gc.enable()


async def test_a_thread_is_not_promised_by_a_scheduler_without_one(clock):
    with pytest.raises(ValueError, match="no executor"):
        Scheduler().queue("m", lambda items: items, Policy("thread", 1, 1), BatchLimits(1, 1), RecordingObserver())


async def test_a_backlog_is_what_the_next_round_will_not_finish(clock):
    stage = Stage(clock, tile_rows=10, step_s=0.02, cost=RunCost(0.0, 0.001))
    assert not stage.scheduler.has_backlog()
    asking = [stage.ask(name, 10) for name in "abcdefgh"]
    told = []
    for _ in range(6):
        await stage.pass_rounds(1)
        told.append(stage.scheduler.has_backlog())
    assert told == sorted(told, reverse=True)
    assert (told[0], told[-1]) == (True, False)
    await asyncio.gather(*asking)
