"""What a user's features and history cost when many requests read at one time: they share exchanges, plain calls do not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from feature_store.benchmarks.made_items import USER
from feature_store.benchmarks.read_stage import ReadStage
from feature_store.benchmarks.report_text import share_text, spread_text, table
from feature_store.benchmarks.timing import Spread, Times, Way, in_turns, ratio
from feature_store.keys import KeySpace
from feature_store.redis.plain_records import PlainRecords

USERS_READ = "user and history, read and decoded"
USERS_MGET = "plain MGET of the two, redis.asyncio, bytes"
USERS_GETS = "plain pipeline of two GETs, redis.asyncio, bytes"
REQUESTS = 256
"""Read in a round, at whatever concurrency."""


async def measure_concurrent(stage: ReadStage, url: str, counts: Sequence[int], rounds: int) -> dict[int, Times]:
    """Milliseconds for ``REQUESTS`` requests, by how many are made at one time."""
    keys = KeySpace()
    own = (keys.user(USER), keys.history(USER))
    async with PlainRecords(url) as plain:
        calls: dict[str, Way] = {
            USERS_READ: lambda: stage.read(()),
            USERS_MGET: lambda: plain.mget(own),
            USERS_GETS: lambda: plain.gets(own),
        }
        return {count: await in_turns(lambda: _all_at(count, calls), rounds) for count in counts}  # noqa: B023


def _all_at(count: int, calls: Mapping[str, Way]) -> dict[str, Way]:
    return {name: _repeated(call, count) for name, call in calls.items()}


def _repeated(call: Callable[[], Awaitable[object]], count: int) -> Way:
    """A call made ``REQUESTS`` times by so many tasks."""

    async def one_after_another() -> None:
        for _ in range(REQUESTS // count):
            await call()

    async def run() -> None:
        await asyncio.gather(*(one_after_another() for _ in range(count)))

    return run


def concurrent_lines(by_count: Mapping[int, Times]) -> list[str]:
    """The report as Markdown."""
    counts = list(by_count)
    ways = list(by_count[counts[0]])
    rows = [[way, *(spread_text(Spread.of(by_count[count][way])) for count in counts)] for way in ways]
    rows += [
        [f"share of: {way}", *(share_text(ratio(by_count[count], USERS_READ, way)) for count in counts)] for way in ways[1:]
    ]
    return [
        "## By number of requests at one time",
        "",
        f"{REQUESTS} requests, each for a user's features and history, made by so many tasks; milliseconds for all of them. "
        "Requests that wait at one time share an exchange; the plain calls are one each, and bring bytes that nobody checked.",
        "",
        *table(["ms", *(f"{count} at a time" for count in counts)], rows),
    ]
