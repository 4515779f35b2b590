"""No caller ever gets another's rows: random sizes, cancels, deadlines and failing runs over the real engine.

The model's score names its user and item, so one wrong row among all would show.
"""

import asyncio
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.scoring.errors import DeadlinePassedError, OverloadedError, ScoringFailedError
from service.scoring.onnx_session import OnnxSession, SessionSettings
from service.scoring.scorer import Form, Forms, Scorer
from tests.service.scoring.graphs import ITEM_IDS, expected_ctr, graph_bytes, publish, request_of
from tests.service.scoring.stand_ins import RecordingObserver, SteppedExecutor
from tests.service.scoring.thread_batcher import Batcher, BatchLimits

POISON_USER = 1_999
ROWS = 120_000


class BreakableGraph:
    """The real graph, which raises for every batch that holds the poisonous user, and keeps count of who was run."""

    def __init__(self):
        self.session = OnnxSession(graph_bytes(), {}, SessionSettings("cpu", 1))
        self.users_run = Counter()

    def run(self, outputs, feeds):
        users = feeds["user_numbers"][:, 0]
        if POISON_USER in users:
            raise RuntimeError("poisoned")
        self.users_run.update(users.tolist())
        return self.session.run(outputs, feeds)


@pytest.fixture
def graph():
    return BreakableGraph()


def check(request, scores):
    """Every row is the owner's; returns how many were looked at."""
    expected = expected_ctr(request)
    assert np.array_equal(scores.values["ctr"], expected)
    assert np.array_equal(scores.values["cvr"], -expected)
    if request.want_attention:
        user = int(request.inputs["user_numbers"][0, 0]) % ITEM_IDS
        assert np.array_equal(scores.values["attention"], np.repeat(user + request.inputs["candidate_numbers"], 3, axis=1))
    return request.rows


def random_request(choice):
    rows = choice.choice([1, 2, choice.randint(3, 60), choice.randint(61, 400)])
    user = POISON_USER if choice.random() < 0.02 else choice.randrange(POISON_USER)
    items = [choice.randrange(ITEM_IDS) for _ in range(rows)]
    numbers = [choice.randrange(4) / 4 for _ in range(rows)]
    return request_of(user, items, numbers, attention=choice.random() < 0.1)


async def call(batcher, request, choice, outcomes):
    """One caller: patient, hurried, or gone before the answer."""
    kind = choice.random()
    timeout_s = choice.uniform(0.0, 0.003) if kind < 0.1 else 60.0
    asking = asyncio.ensure_future(batcher.submit(request, rows=request.rows, deadline=time.monotonic() + timeout_s))
    if 0.1 <= kind < 0.3:
        for _ in range(choice.randrange(6)):
            await asyncio.sleep(0)
        asking.cancel()
    try:
        answer = await asking
    except ScoringFailedError:
        outcomes["poisoned" if request.inputs["user_numbers"][0, 0] == POISON_USER else "harmed"] += 1
    except (asyncio.CancelledError, DeadlinePassedError, OverloadedError) as error:
        outcomes[type(error).__name__] += 1
    else:
        outcomes["rows"] += check(request, answer.result)


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_row_is_misrouted(manifest, graph, seed):
    """At least 60,000 verified rows a seed, 120,000 in all: zero misrouted."""
    choice, outcomes, observer = random.Random(seed), Counter(), RecordingObserver()
    with ThreadPoolExecutor(max_workers=1) as executor:
        limits = BatchLimits(max_batch_rows=1_000, max_queue_rows=20_000)
        batcher = Batcher(
            "tiny@1", Scorer(Forms(Form(graph, manifest.inputs)), manifest), executor=executor, limits=limits, observer=observer
        )

        async def client():
            while outcomes["rows"] < ROWS // 2:
                await call(batcher, random_request(choice), choice, outcomes)

        await asyncio.gather(*(client() for _ in range(24)))
        await batcher.drain()
    assert batcher.waiting_rows == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert outcomes["rows"] >= ROWS // 2
    assert outcomes["CancelledError"] > 20
    assert outcomes["poisoned"] > 2
    assert outcomes["harmed"] == 0
    assert any(requests > 1 for _, requests, _ in observer.batches)


@pytest.fixture
def manifest(repository):
    return publish(repository).manifest


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 40)),
        st.tuples(st.just("ask"), st.integers(1, 40)),
        st.tuples(st.just("poison"), st.integers(1, 40)),
        st.tuples(st.just("leave"), st.integers(0, 30)),
        st.tuples(st.just("run"), st.just(0)),
    ),
    max_size=60,
)


@given(actions=ACTIONS, max_batch_rows=st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_any_order_of_arrivals_departures_and_runs_answers_everyone_once(actions, max_batch_rows):
    asyncio.run(play(actions, max_batch_rows))


async def play(actions, max_batch_rows):
    """Drive a batcher step by step; who left before a run must not be in it, who stayed gets the own answer."""
    stage = Stage(max_batch_rows)
    for number, (kind, amount) in enumerate(actions):
        await stage.act(number, kind, amount)
    while stage.executor.waiting:
        await stage.act(None, "run", 0)
    for number, kind, caller in stage.callers:
        outcome = (await asyncio.gather(caller, return_exceptions=True))[0]
        if number in stage.gone:
            assert isinstance(outcome, asyncio.CancelledError)
        elif kind == "poison":
            assert isinstance(outcome, ScoringFailedError)
        else:
            assert outcome.result == number
    assert stage.batcher.waiting_rows == 0
    await stage.batcher.drain()


class Stage:
    """A batcher whose every run is checked against who is gone and how much a batch may hold."""

    def __init__(self, max_batch_rows):
        self.executor = SteppedExecutor()
        limits = BatchLimits(max_batch_rows, max_queue_rows=10_000)
        self.batcher = Batcher("m@1", self.run, executor=self.executor, limits=limits, observer=RecordingObserver())
        self.max_batch_rows = max_batch_rows
        self.callers = []
        self.gone = set()

    def run(self, items):
        assert not self.gone & {number for number, _, _ in items}
        assert sum(rows for _, _, rows in items) <= self.max_batch_rows or len(items) == 1
        if any(kind == "poison" for _, kind, _ in items):
            raise RuntimeError("poisoned")
        return [number for number, _, _ in items]

    async def act(self, number, kind, amount):
        if kind in ("ask", "poison"):
            asking = self.batcher.submit((number, kind, amount), rows=amount, deadline=time.monotonic() + 60)
            self.callers.append((number, kind, asyncio.create_task(asking)))
        elif kind == "leave" and amount < len(self.callers):
            self.callers[amount][2].cancel()
        elif kind == "run" and self.executor.waiting:
            self.executor.step()
        for _ in range(3):
            await asyncio.sleep(0)
        self.gone = {number for number, _, caller in self.callers if caller.cancelled()}
