"""What reading costs: by number of items, by number of views and of fields, and in commands that the server runs."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feature_store.benchmarks.concurrent_reads import measure_concurrent
from feature_store.benchmarks.made_items import MadeItems
from feature_store.benchmarks.read_stage import FETCH_COLD, FIELDS_LOOP, LOOP, READ, ReadStage
from feature_store.benchmarks.round_trips import TripCounter
from feature_store.benchmarks.timing import Times, Way, in_turns
from feature_store.redis.plain_hashes import ServerGauge


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How much is measured. ``compared`` items are read where only one number of items is."""

    items: int = 20_000
    fields: int = 8
    counts: tuple[int, ...] = (50, 200, 1_000, 5_000)
    rounds: int = 11
    compared: int = 1_000
    views: tuple[int, ...] = (1, 5, 20)
    view_fields: int = 20
    view_items: int = 2_000
    view_rounds: int = 5
    field_counts: tuple[int, ...] = (4, 16, 64)
    used_fields: int = 4
    trip_items: int = 20
    at_a_time: tuple[int, ...] = (1, 8, 32)


@dataclass(frozen=True, slots=True)
class ReadTimes:
    """``by_count`` and ``tcp`` by number of items, ``concurrent`` by requests at one time, ``by_views`` by way, ``by_fields``
    by number of fields.

    ``commands`` that the server ran for one request, and ``trips`` on the wire, by way.
    """

    by_count: Mapping[int, Times]
    tcp: Mapping[int, Times]
    concurrent: Mapping[int, Times]
    by_views: Times
    by_fields: Mapping[int, Times]
    commands: Mapping[str, Mapping[str, int]]
    trips: Mapping[str, int]


async def measure_reads(url: str, tcp_url: str, plan: ReadPlan) -> ReadTimes:
    """Fill the (empty) store and measure; the server behind both URLs, a Unix socket and TCP, is the same.

    Raises:
        BenchmarkError: the ways to read do not bring the same.
        StoreUnavailableError: the store cannot be filled or read.
    """
    items = MadeItems.of(plan.items, plan.fields)
    async with ReadStage(url, items, plan.fields) as stage:
        await stage.write()
        await stage.check(items.ids[: plan.compared])
        await stage.fetch_warm(items.ids)
        by_count = {count: await _by_count(stage, count, plan.rounds) for count in plan.counts}
        concurrent = await measure_concurrent(stage, url, plan.at_a_time, plan.rounds)
        commands = await _commands(stage, url, items.ids[: plan.compared])
    async with ReadStage(tcp_url, items, plan.fields) as stage:
        await stage.fetch_warm(items.ids)
        tcp = {plan.compared: await _by_count(stage, plan.compared, plan.rounds)}
    by_views, by_fields = await _by_views(url, plan), await _by_fields(url, plan)
    with tempfile.TemporaryDirectory() as folder, TripCounter(url, Path(folder) / "relay") as relay:
        async with ReadStage(relay.url, items, plan.fields) as stage:
            trips = await _trips(stage, relay, items.ids[: plan.trip_items])
    return ReadTimes(by_count, tcp, concurrent, by_views, by_fields, commands, trips)


async def _by_count(stage: ReadStage, count: int, rounds: int) -> Times:
    """Other items every round; all ways of a round read the same."""
    draw = random.Random(count)
    return await in_turns(lambda: stage.ways(draw.sample(stage.items.ids, count)), rounds)


async def _commands(stage: ReadStage, url: str, ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """What the server ran for one request of each way, by command."""
    gauge = ServerGauge(url)
    try:
        commands = {}
        for name, way in stage.ways(ids).items():
            before = gauge.calls()
            await way()
            after = gauge.calls()
            commands[name] = {each: count - before.get(each, 0) for each, count in after.items() if count > before.get(each, 0)}
        return commands
    finally:
        gauge.close()


async def _trips(stage: ReadStage, relay: TripCounter, ids: Sequence[str]) -> dict[str, int]:
    """Round trips of one request of each way; each has its connection already."""
    for way in stage.ways(ids).values():
        await way()
    trips = {}
    await stage.fetch_warm(ids)
    for name, way in stage.ways(ids).items():
        before = relay.trips
        await way()
        trips[name] = relay.trips - before
    return trips


async def _by_views(url: str, plan: ReadPlan) -> Times:
    """The same fields of an item in one record, or dealt out to a hash per view."""
    items = MadeItems.of(plan.view_items, plan.view_fields)
    async with ReadStage(url, items, plan.used_fields, "bench-views") as stage:
        await stage.write(plan.views)
        await stage.check(items.ids[:50], plan.views)
        draw = random.Random(0)

        def ways() -> dict[str, Way]:
            ids = draw.sample(items.ids, min(plan.compared, len(items.ids)))
            plain = {f"{LOOP}, hashes per item: {views}": _loop(stage, ids, views) for views in plan.views}
            return {READ: lambda: stage.read(ids), FETCH_COLD: stage.cold(ids), **plain}

        return await in_turns(ways, plan.view_rounds)


def _loop(stage: ReadStage, ids: Sequence[str], views: int) -> Way:
    return lambda: stage.loop(ids, views)


async def _by_fields(url: str, plan: ReadPlan) -> dict[int, Times]:
    """Items of more and more fields, of which a model uses the same number."""
    times: dict[int, Times] = {}
    for fields in plan.field_counts:
        items = MadeItems.of(plan.view_items, fields)
        async with ReadStage(url, items, plan.used_fields, f"bench-fields-{fields}") as stage:
            await stage.write()
            await stage.check(items.ids[:50])
            draw = random.Random(fields)
            times[fields] = await in_turns(lambda: _few_ways(stage, draw, plan.compared), plan.view_rounds)  # noqa: B023
    return times


def _few_ways(stage: ReadStage, draw: random.Random, count: int) -> dict[str, Way]:
    ids = draw.sample(stage.items.ids, min(count, len(stage.items.ids)))
    return {
        READ: lambda: stage.read(ids),
        FETCH_COLD: stage.cold(ids),
        LOOP: lambda: stage.loop(ids),
        FIELDS_LOOP: lambda: stage.fields_loop(ids),
    }
