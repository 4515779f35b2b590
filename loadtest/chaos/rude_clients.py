"""Many connections that ask for random users; a share of them leaves at a random moment."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from loadtest.chaos.own_histories import OwnAnswers
from loadtest.chaos.wire import Wire, WireBrokenError

_ANSWER_TIMEOUT_S = 20.0
_EXAMPLES = 10
_LINGER_S = 0.015


@dataclass(frozen=True, slots=True)
class Crowd:
    """``answers`` whole answers are wanted within ``max_s``; ``disconnect_share`` of all requests are walked away from."""

    answers: int
    connections: int = 32
    disconnect_share: float = 0.3
    max_s: float = 3_600.0


@dataclass(slots=True)
class Tally:
    """What came back. ``broken``: connections that the service ended, or on which no answer came in 20 s."""

    checked: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    disconnected: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def crowd_of_rude_clients(port: int, answers: OwnAnswers, crowd: Crowd, seed: int) -> Tally:
    """Ask until enough answers were checked, or time is up."""
    tally = Tally()
    started = time.monotonic()

    def is_over() -> bool:
        return tally.checked >= crowd.answers or time.monotonic() > started + crowd.max_s

    async with asyncio.TaskGroup() as group:
        for place in range(crowd.connections):
            requests = _drawn(answers, crowd, random.Random(f"{seed}-{place}"), is_over)
            group.create_task(_client(Wire(port), answers, tally, requests))
    tally.seconds = time.monotonic() - started
    return tally


def _drawn(
    answers: OwnAnswers, crowd: Crowd, rng: random.Random, is_over: Callable[[], bool]
) -> Iterator[tuple[int, random.Random | None]]:
    """Users to ask for; with each, what to draw the moment of leaving from, or None to stay."""
    while not is_over():
        number = rng.randrange(len(answers.requests))
        yield number, (rng if rng.random() < crowd.disconnect_share else None)


async def _client(wire: Wire, answers: OwnAnswers, tally: Tally, requests: Iterator[tuple[int, random.Random | None]]) -> None:
    try:
        for number, leaving in requests:
            try:
                if leaving is not None:
                    tally.disconnected[await _walk_away(wire, answers.requests[number], leaving)] += 1
                else:
                    await _ask(wire, answers, number, tally)
            except WireBrokenError as error:
                tally.broken[str(error)[:80]] += 1
                await asyncio.sleep(0.05)
    finally:
        wire.leave()


async def _ask(wire: Wire, answers: OwnAnswers, number: int, tally: Tally) -> None:
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            reply = await wire.exchange(answers.requests[number])
    except TimeoutError:
        raise WireBrokenError("no answer in time") from None
    verdict = answers.judge(number, reply)
    tally.verdicts[verdict.kind] += 1
    if reply.status == 200:
        tally.checked += 1
    if verdict.kind == "degraded":
        tally.degraded[verdict.reason] += 1
    elif verdict.kind != "own" and len(tally.wrong) < _EXAMPLES:
        tally.wrong.append(f"user {number}: {verdict.kind}, {verdict.reason}")


async def _walk_away(wire: Wire, request: bytes, rng: random.Random) -> str:
    """Leave at a random moment; tells which."""
    moment = rng.choice(("before sending", "half sent", "waiting", "waiting", "mid-answer"))
    try:
        if moment == "half sent":
            await wire.send(request[: rng.randrange(1, len(request))])
        elif moment != "before sending":
            await wire.send(request)
        if moment == "mid-answer":
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                await wire.read_some(rng.randrange(1, 200))
        elif moment != "before sending":
            await asyncio.sleep(rng.random() * _LINGER_S)
    except TimeoutError:
        raise WireBrokenError("no answer in time") from None
    finally:
        wire.leave()
    return moment
