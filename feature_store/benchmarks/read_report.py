"""The report on reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from feature_store.benchmarks.concurrent_reads import USERS_MGET, concurrent_lines
from feature_store.benchmarks.made_items import HISTORY_EVENTS
from feature_store.benchmarks.read_stage import (
    FETCH_COLD,
    FETCH_WARM,
    FIELDS_LOOP,
    LOOP,
    LOOP_ROWS,
    PIPELINE,
    READ,
    RECORDS_GETS,
    RECORDS_MGET,
)
from feature_store.benchmarks.reads import ReadPlan, ReadTimes
from feature_store.benchmarks.report_text import COMMAND, machine_lines, share_text, spread_text, table, times_json
from feature_store.benchmarks.timing import Spread, Times, ratio

AIM = 8


def read_lines(machine: Mapping[str, str], plan: ReadPlan, done: ReadTimes) -> list[str]:
    """The report as Markdown."""
    return [
        "# Reading features: what it costs",
        "",
        f"`{COMMAND} reads`. Milliseconds: the median over rounds, with the quartiles. The ways take turns within a round and "
        "read the same items in it, other items in the next; one round before the first is not counted. The cyclic garbage "
        "collector is on, as in the service.",
        "",
        *machine_lines(machine),
        *_ways(plan),
        *_by_count(plan, done),
        *concurrent_lines(done.concurrent),
        *_by_views(plan, done),
        *_by_fields(plan, done),
        *_round_trips(plan, done),
    ]


def read_json(machine: Mapping[str, str], plan: ReadPlan, done: ReadTimes) -> dict[str, Any]:
    """The figures of the report, with the ratios to the plain loop."""
    return {
        "machine": dict(machine),
        "plan": asdict(plan),
        "unix_socket": {str(count): times_json(times, LOOP) for count, times in done.by_count.items()},
        "loopback_tcp": {str(count): times_json(times, LOOP) for count, times in done.tcp.items()},
        "concurrent": {str(count): times_json(times, USERS_MGET) for count, times in done.concurrent.items()},
        "by_views": times_json(done.by_views, READ),
        "by_fields": {str(fields): times_json(times, LOOP) for fields, times in done.by_fields.items()},
        "round_trips": dict(done.trips),
        "commands": {way: dict(calls) for way, calls in done.commands.items()},
    }


def _ways(plan: ReadPlan) -> list[str]:
    return [
        "## What is compared",
        "",
        f"{plan.items:,} items of {plan.fields} fields each (a quarter texts, a half numbers, a quarter lists of two texts), "
        "in the store both as this project's records and as plain hashes of texts.",
        "",
        f"- **{READ}**: `RedisStore.read`: the user's features, a history of {HISTORY_EVENTS} events and the items; owners and "
        "checksums are looked at, values decoded.",
        f"- **{FETCH_COLD}**: `OnlineFeatures.fetch`: the same, then the items into the cache and encoded as a model's input.",
        f"- **{FETCH_WARM}**: the same call when the cache holds all items: what most requests of a running service do.",
        "- **plain ...**: the items alone, without user and history: one hash an item, read by redis-py with hiredis, texts "
        "made into numbers and lists. *then encoded rows*: by the same encoder as above.",
        "- **plain ... of the records**: this project's own records by redis.asyncio's client as it is; bytes, neither checked "
        "nor decoded.",
        "",
    ]


def _by_count(plan: ReadPlan, done: ReadTimes) -> list[str]:
    counts = list(done.by_count)
    rows = [[way, *(spread_text(Spread.of(done.by_count[count][way])) for count in counts)] for way in done.by_count[counts[0]]]
    lines = ["## By number of items", "", "Over the embedded server's Unix socket:", ""]
    lines += table(["ms", *(f"{count:,} items" for count in counts)], rows)
    for where, by_count in (("the Unix socket", done.by_count), ("TCP on loopback", done.tcp)):
        if plan.compared in by_count:
            lines += _shares(by_count[plan.compared], plan.compared, where)
    return lines


def _shares(times: Times, count: int, where: str) -> list[str]:
    """How the project's own ways compare with the plain ones, and whether that is what was aimed at."""
    compared = [(READ, LOOP), (FETCH_COLD, LOOP_ROWS), (FETCH_COLD, LOOP), (FETCH_WARM, LOOP)]
    compared += [(READ, PIPELINE), (READ, RECORDS_MGET), (READ, RECORDS_GETS)]
    rows = []
    for way, other in compared:
        share = ratio(times, way, other)
        aimed = "" if other in (PIPELINE, RECORDS_MGET, RECORDS_GETS) else "yes" if share.median <= 1 / AIM else "no"
        rows.append([f"{way}, of: {other}", spread_text(Spread.of(times[way])), share_text(share), aimed])
    head = f"{count:,} items over {where}; shares round by round, with the quartiles:"
    return [head, "", *table(["way", "ms", "share of the other's time", f"at most 1/{AIM}"], rows)]


def _by_views(plan: ReadPlan, done: ReadTimes) -> list[str]:
    rows = [
        [way, spread_text(Spread.of(values)), f"{ratio(done.by_views, way, READ).median:.1f}"]
        for way, values in done.by_views.items()
    ]
    return [
        "## By number of views",
        "",
        f"{plan.compared:,} items of {plan.view_fields} fields, of which the model uses {plan.used_fields}. The plain way "
        "keeps one hash an item and view, the fields dealt out evenly, and reads them all. Here an item is one record whatever "
        "views its fields are declared in, so there is one line for any number of them: nothing in the code depends on it.",
        "",
        *table(["way", "ms", f"times '{READ}'"], rows),
    ]


def _by_fields(plan: ReadPlan, done: ReadTimes) -> list[str]:
    counts = list(done.by_fields)
    ways = (READ, FETCH_COLD, LOOP, FIELDS_LOOP)
    rows = [[way, *(spread_text(Spread.of(done.by_fields[count][way])) for count in counts)] for way in ways]
    return [
        "## By number of fields",
        "",
        f"{plan.compared:,} items; the model uses {plan.used_fields} of the fields, whatever their number. A record is read "
        "and decoded whole, so this is not flat: it grows with the bytes.",
        "",
        *table(["ms", *(f"{count} fields" for count in counts)], rows),
    ]


def _round_trips(plan: ReadPlan, done: ReadTimes) -> list[str]:
    rows = [
        [way, f"{done.trips[way]}", ", ".join(f"{count:,} {name.upper()}" for name, count in calls.items())]
        for way, calls in done.commands.items()
    ]
    return [
        "## Round trips",
        "",
        f"Round trips of one request of {plan.trip_items} items, counted by a relay on the wire that holds replies until "
        f"nobody sends any more; and the commands that the server ran for one request of {plan.compared:,} items, by its own "
        "count (`INFO commandstats`).",
        "",
        *table(["way", f"round trips, {plan.trip_items} items", f"commands, {plan.compared:,} items"], rows),
    ]
