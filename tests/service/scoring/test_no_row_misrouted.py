"""A million rows through either policy: random sizes, equal deadlines, cancels and failures; each row carries its owner."""

import asyncio
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.manifest import GraphInput
from service.scoring.batch import Scores, ScoringRequest, divide, join, merge, split
from service.scoring.errors import DeadlinePassedError, OverloadedError, ScoringFailedError
from service.scoring.policies import BatchLimits, Policy
from service.scoring.run_cost import RunCost
from service.scoring.scheduler import Scheduler
from service.scoring.submission import Division
from tests.service.scoring.stand_ins import RecordingObserver

INPUTS = (
    GraphInput(name="user", dtype="int32", axis="users"),
    GraphInput(name="row", dtype="int32", axis="rows"),
    GraphInput(name="row_user", dtype="int32", axis="rows"),
)
POISON = 1_000_000
ROWS = 1_000_000


def run(requests: list[ScoringRequest]) -> list[Scores]:
    """A row's score is its owner and its place: what a graph computes from ``row_user``."""
    feeds = merge(requests, INPUTS)
    if (feeds["user"] >= POISON).any():
        raise RuntimeError("poisoned")
    owner = feeds["user"][feeds["row_user"]].astype(np.int64)
    return split({"ctr": owner * 10_000 + feeds["row"]}, requests)


async def call(queue, loop, number, choice, outcomes):
    rows = choice.choice([1, 2, choice.randint(3, 60), choice.randint(61, 400), choice.randint(401, 2_000)])
    poisoned, leaves = choice.random() < 0.02, choice.random() < 0.1
    user = number + POISON * poisoned
    inputs = {"user": np.full(1, user, np.int32), "row": np.arange(rows, dtype=np.int32)}
    # Deadlines in steps of a second: mostly ties.
    deadline = loop.time() + choice.choice([0.002, 20.0, 20.0, 21.0, 22.0])
    asking = asyncio.ensure_future(queue.submit(ScoringRequest(inputs, rows), rows=rows, deadline=deadline))
    if leaves:
        for _ in range(choice.randrange(5)):
            await asyncio.sleep(0)
        asking.cancel()
    try:
        answer = await asking
    except ScoringFailedError:
        outcomes["poisoned" if poisoned else "harmed"] += 1
    except (asyncio.CancelledError, DeadlinePassedError, OverloadedError) as error:
        outcomes[type(error).__name__] += 1
    else:
        expected = user * 10_000 + np.arange(rows)
        outcomes["wrong"] += not np.array_equal(answer.result.values["ctr"], expected)
        outcomes["rows"] += rows


@pytest.mark.parametrize(
    "policy",
    [
        Policy("inline", 256, 64, RunCost(1e-5, 1e-8)),
        Policy("inline", 100, 0),
        Policy("thread", 4_000, 4_000),
        Policy("thread", 300, 100),
    ],
    ids=["inline merging", "inline alone", "thread whole", "thread in parts"],
)
async def test_no_row_of_a_million_is_misrouted(policy):
    choice, outcomes, observer = random.Random(7), Counter(), RecordingObserver()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=1) as executor:
        scheduler, division = Scheduler(executor), Division(divide, join)
        limits = BatchLimits(4_000, 40_000)
        queues = [scheduler.queue(name, run, policy, limits, observer, division=division) for name in "ab"]
        numbers = iter(range(POISON))

        async def client(queue):
            while outcomes["rows"] < ROWS:
                await call(queue, loop, next(numbers), choice, outcomes)

        await asyncio.gather(*(client(queue) for queue in queues * 16))
        for queue in queues:
            await queue.drain()
    assert scheduler.waiting_rows() == {"a": 0, "b": 0}
    assert (outcomes["wrong"], outcomes["harmed"]) == (0, 0)
    assert outcomes["rows"] >= ROWS
    assert outcomes["CancelledError"] > 10
    assert outcomes["poisoned"] > 5
    assert (any(requests > 1 for _, requests, _ in observer.batches)) is policy.merge
    assert any(requests == 0 for _, requests, _ in observer.batches) is (policy.tile_rows < 1_000)
