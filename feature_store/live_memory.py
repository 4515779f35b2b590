"""What live events cost in the store: remembered ids, counters, the log; measured by applying made events to a server."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from feature_store.events.event import Event, new_event
from feature_store.events.ports import SpoolMark
from feature_store.keys import KeySpace
from feature_store.redis.events import RedisEvents
from feature_store.redis.inspection import RedisInspection
from feature_store.redis.script_runs import open_scripts
from feature_store.views import FeatureViews

_USERS = 20
_BATCH = 200
_SECONDS_2026 = 1_767_225_600.0


@dataclass(frozen=True, slots=True)
class Cost:
    """One kind of record: how many were measured, mean bytes of the value, mean and highest bytes in memory.

    ``value_bytes`` is None where the record is no single value.
    """

    what: str
    records: int
    value_bytes: float | None
    memory_bytes: float
    most: int


async def live_costs(url: str, views: FeatureViews, counts: Iterable[int]) -> list[Cost]:
    """Costs of users with so many events each, of every declared type in turn, and of the log per event."""
    keys, inspection = KeySpace(), RedisInspection.from_url(url)
    events = RedisEvents(open_scripts(url, 10.0), keys, views)
    costs: list[Cost] = []
    logged = 0
    try:
        for count in counts:
            users = [f"user-{count}-{number}" for number in range(_USERS)]
            for user in users:
                await _apply(events, _made(views, user, count))
            logged += count * _USERS
            costs.append(await _cost(inspection, f"user, ids of {count:,} live events", map(keys.seen, users)))
        costs.append(await _cost(inspection, "user, counters", map(keys.user_counters, users)))
        costs.append(await _cost(inspection, "item, counters", map(keys.item_counters, ["i0", "i1", "i2"])))
        log_bytes = await inspection.memory_bytes(keys.event_log) or 0
        costs.append(Cost("event log, per event", logged, None, log_bytes / logged, -(-log_bytes // logged)))
        return costs
    finally:
        await events.close()
        await inspection.close()


def _made(views: FeatureViews, user: str, count: int) -> list[Event]:
    types = [] if views.events is None else list(views.events.types)
    return [
        new_event(
            event_id=f"{user}-{number:08d}-0123456789abcdef",
            user_id=user,
            item_id=f"i{number % 997}",
            type=types[number % len(types)].name,
            time=_SECONDS_2026 + number,
            received_at=_SECONDS_2026 + number,
            value=None if types[number % len(types)].value is None else 4.0,
        )
        for number in range(count)
    ]


async def _apply(events: RedisEvents, made: list[Event]) -> None:
    for start in range(0, len(made), _BATCH):
        batch = made[start : start + _BATCH]
        before = (await events.applied_through("memory")).sure
        await events.apply(batch, SpoolMark("memory", before, (before or 0) + len(batch)))


async def _cost(inspection: RedisInspection, what: str, keys: Iterable[bytes]) -> Cost:
    in_memory = [await inspection.memory_bytes(key) or 0 for key in keys]
    return Cost(what, len(in_memory), None, statistics.fmean(in_memory), max(in_memory))
