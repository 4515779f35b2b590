"""A front-end whose scorer came back different, or that has no descriptors to reach it with: it asks until it is served."""

import asyncio
import errno
import os
import signal

import pytest

from service.scoring.errors import ScoringFailedError
from service.scoring.process import connection as connection_module
from service.scoring.process import messages
from service.scoring.process.connection import ConnectionRule, ScorerConnection
from tests.service.scoring.graphs import publish, request_of
from tests.service.scoring.process.conftest import PATIENCE_S, SHAPE, front_end, load, open_descriptors, soon

SCORES = "[1000.5]"


async def outcome_of(remote):
    """The scores or the error, as text."""
    try:
        answer = await remote.submit(request_of(1, [1]), rows=1, deadline=soon())
    except ScoringFailedError as error:
        return str(error)
    return str(answer.result.values["ctr"].tolist())


async def until(remote, expected):
    async with asyncio.timeout(PATIENCE_S):
        while expected not in (outcome := await outcome_of(remote)):  # noqa: ASYNC110 - the other process's
            await asyncio.sleep(0.005)
    return outcome


@pytest.fixture
def asked(monkeypatch):
    """The versions that scorers were asked for, in order."""
    loads = []
    real = messages.send

    def send(peer, message, descriptors=()):
        if isinstance(message, messages.Load):
            loads.append(message)
        real(peer, message, descriptors)

    monkeypatch.setattr(messages, "send", send)
    return loads


async def test_a_version_that_a_new_scorer_refuses_is_asked_for_until_it_serves_again(house, asked):
    published = publish(house.repository, "away")
    hidden = published.directory.with_suffix(".away")
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, published)
        published.directory.rename(hidden)
        os.kill(house.supervisor.pid, signal.SIGKILL)
        refusal = await until(remote, "refuses what it served, and is asked again: ")
        assert refusal.startswith("away@1: ")
        assert connection.connected
        before = len(asked)
        async with asyncio.timeout(PATIENCE_S):
            while len(asked) < before + 2:  # noqa: ASYNC110 - the other process's
                await asyncio.sleep(0.005)
        assert await outcome_of(remote) == refusal
        hidden.rename(published.directory)
        assert await until(remote, SCORES) == SCORES


async def test_a_version_that_was_let_go_of_is_not_asked_for_again(house, asked):
    published = publish(house.repository, "gone")
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, published)
        published.directory.rename(published.directory.with_suffix(".away"))
        os.kill(house.supervisor.pid, signal.SIGKILL)
        await until(remote, "refuses what it served")
        del remote
        for _ in range(3):
            await asyncio.sleep(0)
        asked.clear()
        await asyncio.sleep(0.2)
        assert asked == []


@pytest.mark.parametrize("what", ["socket", "mailbox", "fault"])
async def test_reconnecting_without_free_descriptors_leaks_none_and_ends_when_there_are_some(house, monkeypatch, what):
    tries = []

    def refuse(*_):
        tries.append(what)
        raise OSError(errno.EMFILE, "Too many open files") if what != "fault" else ValueError("a fault of our own")

    rule = ConnectionRule(SHAPE, retry_s=0.001, longest_retry_s=0.002)
    before = open_descriptors()
    with monkeypatch.context() as broken:
        broken.setattr(*((messages, "new_socket") if what == "socket" else (connection_module, "Mailbox")), refuse)
        connection = ScorerConnection(house.supervisor.address, rule)
        await connection.start()
        async with asyncio.timeout(PATIENCE_S):
            while len(tries) < 30:  # noqa: ASYNC110 - no event of ours
                await asyncio.sleep(0.002)
        # One descriptor a try would be thirty more; a few may be opened beside it, by whatever else runs here.
        assert open_descriptors() < before + 15
    remote = await load(connection, house.published)
    assert await outcome_of(remote) == SCORES
    await connection.close()
