"""Applying live events: one atomic server-side step per user, safe to repeat.

On one server (or behind a Sentinel) the step also counts the event for its item and writes it into the event log, so history,
counters and log never disagree.

On a cluster these lie on other nodes and are steps of their own. Guaranteed there, too: every event is in its user's history
and counters once, and in the log at least once, with the version it had (readers of the log drop the second), whatever replies
are lost and whichever nodes lose their data, since all that the spools retain is then applied again. Not guaranteed are the
counters of items: an event that is applied again after a lost reply may be missing from its item's; and of the events that are
applied again after a node has lost its data, those of users on that node are counted twice for items on other nodes, those of
users on other nodes are missing from items on that one.

An event is known to have been applied as long as its id is remembered (``EventRule``). Beyond that the history still takes none
twice that it holds, by item and time, but counters and log do. Versions that callers were told do not fall as long as the store
keeps the history or the ids; a store that lost its last writes tells lower ones until the spools have been applied again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from feature_store.event_types import Events
from feature_store.events.event import Event, encode_event
from feature_store.events.ports import Applied, SpoolMark, Standing
from feature_store.keys import KeySpace
from feature_store.redis.script_runs import Marker, ScriptRuns
from feature_store.redis.scripts import APPLY_USER, COUNT_ITEM, LOG_EVENTS, ScriptCall
from feature_store.views import FeatureViews

_FRESH, _ENTERED = 2, 1
_STEP_EVENTS = 64
"""A step stops the server: 64 events for 1 to 2 ms, for about 12 ms in a history of 10,000."""
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class EventRule:
    """How much is remembered. Times of half-lives are in the unit of the interactions table's time column.

    Of each user the ids of the newest ``remembered_ids`` events are known for ``remembered_s`` after the last one: an event
    that is sent again within these bounds is not applied again. Counters go ``counters_s`` after an owner's last event. The
    event log keeps about ``log_events``.
    """

    history_length: int
    half_lives: tuple[float, ...]
    remembered_ids: int = 4_096
    remembered_s: int = 86_400
    counters_s: int = 90 * 86_400
    log_events: int = 1_000_000

    @classmethod
    def of(cls, views: FeatureViews) -> EventRule:
        """The rule of a team's views; without declared events nothing decays."""
        events = views.events
        half_lives = () if events is None else tuple(each * events.units_per_s for each in events.half_lives_s)
        return cls(views.history.length, half_lives)


class RedisEvents:
    """``EventStore`` over any topology."""

    def __init__(
        self,
        scripts: ScriptRuns,
        keys: KeySpace,
        views: FeatureViews,
        rule: EventRule | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._scripts = scripts
        self._keys = keys
        self._views = views
        self._rule = rule or EventRule.of(views)
        self._wall_clock = wall_clock
        self.resets = 0
        """How many stored histories were no histories and were put aside."""

    async def apply(self, events: Sequence[Event], mark: SpoolMark) -> list[Applied]:
        """See ``EventStore.apply``."""
        marker = Marker(self._keys.spool(mark.spool_id), mark.before, mark.after, mark.start)
        places = _steps(events)
        calls = [self._user_call([events[place] for place in mine]) for mine in places]
        states, versions = [0] * len(events), [0] * len(events)

        def spread(replies: Sequence[Any]) -> list[ScriptCall]:
            for mine, reply in zip(places, replies, strict=True):
                self.resets += reply[0]
                for place, state, version in zip(mine, reply[1::2], reply[2::2], strict=True):
                    states[place], versions[place] = state, version
            return self._separate_calls(events, states, versions) if self._scripts.separate_items else []

        await self._scripts.run(calls, marker, spread)
        return [Applied(bool(state & _FRESH), version) for state, version in zip(states, versions, strict=True)]

    async def applied_through(self, spool_id: str) -> Standing:
        """See ``EventStore.applied_through``."""
        return await self._scripts.marked(self._keys.spool(spool_id))

    async def close(self) -> None:
        """Close every connection."""
        await self._scripts.close()

    def _user_call(self, events: Sequence[Event]) -> ScriptCall:
        rule, keys, user = self._rule, self._keys, events[0].user_id
        items = {item: place for place, item in enumerate(dict.fromkeys(event.item_id for event in events), start=1)}
        own = [keys.history(user), keys.seen(user), keys.user_counters(user)]
        shared = [] if self._scripts.separate_items else [keys.event_log, keys.event_count, *map(keys.item_counters, items)]
        rows = [(event.type, self._enters(event), items[event.item_id], event.time) for event in events]
        binary = [
            part for event in events for part in (event.digest, b"" if self._scripts.separate_items else encode_event(event))
        ]
        memory = (rule.remembered_ids, rule.remembered_s)
        head = (user, self._wall_clock(), rule.history_length, memory, rule.counters_s, rule.half_lives, rule.log_events)
        return ScriptCall(APPLY_USER, own + shared, [_encode((*head, list(items), rows)), *binary])

    def _separate_calls(self, events: Sequence[Event], states: Sequence[int], versions: Sequence[int]) -> list[ScriptCall]:
        rows = [(version, bool(state & _ENTERED)) for state, version in zip(states, versions, strict=True)]
        arguments = [_encode((self._rule.log_events, rows)), *map(encode_event, events)]
        log = ScriptCall(LOG_EVENTS, [self._keys.event_log, self._keys.event_count], arguments)
        fresh: dict[str, list[tuple[str, float]]] = {}
        for event, state in zip(events, states, strict=True):
            if state & _FRESH:
                fresh.setdefault(event.item_id, []).append((event.type, event.time))
        return [log, *(self._item_call(item, counted) for item, counted in fresh.items())]

    def _item_call(self, item_id: str, counted: Sequence[tuple[str, float]]) -> ScriptCall:
        rule = self._rule
        argument = _encode((item_id, rule.counters_s, rule.half_lives, counted))
        return ScriptCall(COUNT_ITEM, [self._keys.item_counters(item_id)], [argument])

    def _enters(self, event: Event) -> bool:
        declared: Events | None = self._views.events
        kind = None if declared is None else declared.type_named(event.type)
        return kind is not None and self._views.history.takes(kind.row(event.value))


def _steps(events: Sequence[Event]) -> list[list[int]]:
    """The places of each user's events, in order, cut into what one step takes."""
    places: dict[str, list[int]] = {}
    for place, event in enumerate(events):
        places.setdefault(event.user_id, []).append(place)
    return [mine[start : start + _STEP_EVENTS] for mine in places.values() for start in range(0, len(mine), _STEP_EVENTS)]
