"""A batcher with everything around it under the test's control: time, the executor, what runs."""

import asyncio

from tests.service.scoring.stand_ins import RecordingObserver, SteppedExecutor
from tests.service.scoring.thread_batcher import Batcher, BatchLimits

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


class SlowRun(Doubler):
    def __init__(self, clock, seconds_per_row):
        super().__init__()
        self.clock = clock
        self.seconds_per_row = seconds_per_row

    def __call__(self, items):
        self.clock.now += 10 * self.seconds_per_row * len(items)
        return super().__call__(items)


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
