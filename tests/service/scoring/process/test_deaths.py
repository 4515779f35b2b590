"""Whoever dies, or talks nonsense, loses its own requests only; the rest is answered, and soon all is as before."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest

from service.scoring.errors import DeadlinePassedError, OverloadedError, ScoringFailedError
from service.scoring.process import messages
from service.scoring.process.region import Region, RegionShape, new_eventfd
from tests.service.scoring.graphs import expected_ctr, request_of
from tests.service.scoring.process.conftest import PATIENCE_S, SHAPE, front_end, load, soon

SCORER_ERRORS = (ScoringFailedError, OverloadedError, DeadlinePassedError)


class Load:
    """Callers who never stop, each row of whose answers is checked."""

    def __init__(self, remote):
        self.remote = remote
        self.rows = self.answers = self.failures = 0
        self.slowest_s = 0.0

    async def caller(self, seed, over):
        choice = random.Random(seed)
        while not over.is_set():
            count = choice.choice([1, 7, 40, 300, 1_200])
            request = request_of(choice.randrange(4_000), [choice.randrange(52) for _ in range(count)])
            started = time.monotonic()
            try:
                answer = await self.remote.submit(request, rows=count, deadline=started + 5)
            except SCORER_ERRORS:
                self.failures += 1
                await asyncio.sleep(0.005)
            else:
                assert answer.result.values["ctr"].tolist() == expected_ctr(request).tolist()
                self.answers += 1
                self.rows += count
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def served(remote):
    """Until the scorer answers again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                request = request_of(1, [1, 2])
                answer = await remote.submit(request, rows=2, deadline=soon())
                assert answer.result.values["ctr"].tolist() == expected_ctr(request).tolist()
                return
            except SCORER_ERRORS:
                await asyncio.sleep(0.005)


async def test_a_scorer_killed_at_random_under_load_never_hangs_nor_gives_a_wrong_row(house):
    choice, over = random.Random(20260101), asyncio.Event()
    async with front_end(house.supervisor.address) as connection:
        load_ = Load(await load(connection, house.published))
        callers = [asyncio.create_task(load_.caller(seed, over)) for seed in range(12)]
        for _ in range(6):
            goal = load_.answers + 60
            await load_.until(lambda goal=goal: load_.answers >= goal)
            await asyncio.sleep(choice.random() * 0.05)
            os.kill(house.supervisor.pid, signal.SIGKILL)
        goal = load_.answers + 200
        await load_.until(lambda: load_.answers >= goal)
        over.set()
        await asyncio.gather(*callers)
    assert load_.failures > 0
    assert load_.rows > 100_000
    assert load_.slowest_s < 5, "somebody waited for a dead scorer until the deadline"


async def test_a_dead_scorer_fails_its_requests_at_once(house):
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, house.published)
        os.kill(house.supervisor.pid, signal.SIGSTOP)
        waiting = [asyncio.create_task(remote.submit(request_of(1, [1]), rows=1, deadline=soon())) for _ in range(5)]
        await asyncio.sleep(0.02)
        os.kill(house.supervisor.pid, signal.SIGKILL)
        started = time.monotonic()
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, ScoringFailedError)
            assert "died" in str(outcome)
        assert time.monotonic() - started < PATIENCE_S / 2
        assert remote.waiting_rows == 0
        with pytest.raises(ScoringFailedError, match="it is being started again"):
            await remote.submit(request_of(1, [1]), rows=1, deadline=soon())
        await served(remote)


async def test_a_scorer_that_is_stopped_for_a_moment_goes_on(house):
    async with front_end(house.supervisor.address) as connection:
        remote, before = await load(connection, house.published), house.supervisor.restarts
        os.kill(house.supervisor.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(remote.submit(request_of(3, [4]), rows=1, deadline=soon()))
        await asyncio.sleep(0.1)
        os.kill(house.supervisor.pid, signal.SIGCONT)
        assert (await waiting).result.values["ctr"].tolist() == [3002.0]
        assert house.supervisor.restarts == before


async def test_a_hung_scorer_is_replaced(house):
    async with front_end(house.supervisor.address) as connection:
        remote, hung = await load(connection, house.published), house.supervisor.pid
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(DeadlinePassedError):
            await remote.submit(request_of(1, [1]), rows=1, deadline=time.monotonic() + 0.05)
        with pytest.raises(ScoringFailedError):
            await remote.submit(request_of(1, [1]), rows=1, deadline=soon())
        await served(remote)
        assert house.supervisor.pid not in (hung, None)


async def test_front_ends_killed_under_load_harm_nobody_else(house):
    choice, over = random.Random(7), asyncio.Event()
    before = house.supervisor.pid
    async with front_end(house.supervisor.address, RegionShape(32, 8_192)) as connection:
        load_ = Load(await load(connection, house.published))
        callers = [asyncio.create_task(load_.caller(seed, over)) for seed in range(6)]
        command = [sys.executable, "-m", "tests.service.scoring.process.load_front_end"]
        arguments = [house.supervisor.address, str(house.repository.root)]
        others = [subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE) for _ in range(2)]  # noqa: ASYNC220
        for other in others:
            with other, other.stdout as output:
                assert await asyncio.to_thread(output.readline) == b"working\n"
                await asyncio.sleep(0.1 + choice.random() * 0.2)
                other.kill()
        goal = load_.answers + 200
        await load_.until(lambda: load_.answers >= goal)
        over.set()
        await asyncio.gather(*callers)
    assert [other.returncode for other in others] == [-signal.SIGKILL] * 2
    assert (load_.failures, house.supervisor.pid) == (0, before)


def strange(address, content, descriptors=()):
    peer = messages.new_socket()
    peer.connect(address)
    if content:
        socket.send_fds(peer, [content], list(descriptors))
    return peer


async def test_garbage_in_the_control_socket_ends_that_connection_only(house):
    hello = b'{"type":"Hello","protocol":1,"pid":1}'
    region, memory = Region.create(SHAPE)
    bells = [new_eventfd(), new_eventfd()]
    reading, writing = os.pipe()
    before = house.supervisor.pid
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, house.published)
        peers = [
            strange(house.supervisor.address, content, descriptors)
            for content, descriptors in [
                (b"\xff" * 999, []),
                (b'{"type":"Load","handle":1,"name":"tiny","version":1}', []),
                (hello, []),
                (hello, [memory]),
                (hello, [bells[0], memory, bells[1]]),
                (hello, [memory, reading, writing]),
                (hello, [memory, *bells, reading]),
                (b'{"type":"Hello","protocol":2,"pid":1}', [memory, *bells]),
                (b"", []),
            ]
        ]
        for peer in peers[:-1]:
            assert await asyncio.to_thread(peer.recv, 100) == b""
        known = strange(house.supervisor.address, hello, [memory, *bells])
        assert b"Welcome" in await asyncio.to_thread(known.recv, 1_000)
        region.request_ring[:] = 1_000_000
        os.eventfd_write(bells[0], 3)
        assert await asyncio.to_thread(known.recv, 100) == b""
        for peer in (*peers, known):
            peer.close()
        await served(remote)
        assert house.supervisor.pid == before
    for each in (memory, *bells, reading, writing):
        os.close(each)


@pytest.mark.parametrize("name", ["../tiny", "tiny/../tiny", "", "/etc", "tiny@1", "a" * 500, "tiny\n"])
async def test_no_name_reaches_outside_the_repository(house, name):
    _, memory = Region.create(SHAPE)
    bells = [new_eventfd(), new_eventfd()]
    peer = strange(house.supervisor.address, b'{"type":"Hello","protocol":1,"pid":1}', [memory, *bells])
    assert b"Welcome" in await asyncio.to_thread(peer.recv, 1_000)
    messages.send(peer, messages.Load(1, name, 1))
    assert b"a model reference is name@version" in await asyncio.to_thread(peer.recv, 10_000)
    peer.close()
    for each in (memory, *bells):
        os.close(each)
