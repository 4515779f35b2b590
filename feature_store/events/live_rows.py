"""Logged events as rows of the interactions table: examples to learn from, and what is history only."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from feature_store.event_types import Events
from feature_store.events.event import ContextValue, Event, LoggedEvent
from feature_store.events.served import BaseHistory, Unserved, served_histories

ColumnValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class LiveRow:
    """One event's row. ``columns`` and ``context`` (by field name) are empty, ``served`` is None where it is no example.

    ``in_history`` says whether this very event entered the history; ``served`` is the history it was served with, if the
    event tells its version; where that history is not known, it is None and ``unserved`` says why.
    """

    event: Event
    example: bool
    in_history: bool
    columns: Mapping[str, ColumnValue]
    context: Mapping[str, ContextValue]
    served: Sequence[str] | None
    unserved: Unserved | None = None

    @property
    def request(self) -> str:
        """The request's id; an event without one is a request of its own."""
        if self.event.request_id is not None:
            return self.event.request_id
        whole = f"{len(self.event.user_id)}:{self.event.user_id}{self.event.event_id}".encode("utf-8", "surrogatepass")
        return f"event-{hashlib.blake2b(whole, digest_size=16).hexdigest()}"


def live_rows(
    events: Sequence[LoggedEvent],
    declared: Events,
    base: Mapping[str, BaseHistory],
    length: int,
    relogged: Collection[str] = (),
) -> list[LiveRow]:
    """One row an event, in the log's order. An event of a type that is no longer declared is history only."""
    examples = [logged for logged in events if _is_example(logged.event, declared)]
    asked = [(each.event.user_id, each.event.history_version) for each in examples]
    known = [(user, version) for user, version in asked if version is not None]
    served = served_histories(events, known, base, length, relogged)
    columns = _example_columns(examples, events, declared)
    return [_row(logged, columns.get(place), served) for place, logged in enumerate(events)]


def _row(
    logged: LoggedEvent,
    columns: Mapping[str, ColumnValue] | None,
    served: Mapping[tuple[str, int], list[str] | Unserved],
) -> LiveRow:
    event = logged.event
    if columns is None:
        return LiveRow(event, False, logged.entered, {}, {}, None)
    found = _served(logged, served)
    history, why = (None, found) if isinstance(found, Unserved) else (found, None)
    return LiveRow(event, True, logged.entered, columns, event.context, history, why)


def _served(logged: LoggedEvent, served: Mapping[tuple[str, int], list[str] | Unserved]) -> list[str] | Unserved | None:
    """The history of an example; None if it tells no version. The answer came before the event, so does its version."""
    told = logged.event.history_version
    if told is None:
        return None
    return Unserved.VERSION_AHEAD if told > logged.version - logged.entered else served[logged.event.user_id, told]


def _is_example(event: Event, declared: Events) -> bool:
    kind = declared.type_named(event.type)
    return kind is not None and kind.example


def _example_columns(
    examples: Sequence[LoggedEvent], events: Sequence[LoggedEvent], declared: Events
) -> dict[int, dict[str, ColumnValue]]:
    """Place in ``events`` of each example, and its columns: its own, then those of what completes it, the latest last."""
    completing: defaultdict[tuple[str, str, str], list[tuple[float, int]]] = defaultdict(list)
    places = []
    for place, logged in enumerate(events):
        event = logged.event
        if _is_example(event, declared):
            places.append(place)
        elif event.request_id is not None:
            completing[event.user_id, event.item_id, event.request_id].append((event.time, place))
    for times in completing.values():
        times.sort()
    return {
        place: _completed(example.event, completing, events, declared) for place, example in zip(places, examples, strict=True)
    }


def _completed(
    example: Event,
    completing: Mapping[tuple[str, str, str], Sequence[tuple[float, int]]],
    events: Sequence[LoggedEvent],
    declared: Events,
) -> dict[str, ColumnValue]:
    columns = _columns_of(example, declared)
    if example.request_id is not None:
        for time, place in completing.get((example.user_id, example.item_id, example.request_id), ()):
            if time >= example.time:
                columns |= _columns_of(events[place].event, declared)
    return columns


def _columns_of(event: Event, declared: Events) -> dict[str, ColumnValue]:
    kind = declared.type_named(event.type)
    return {} if kind is None else kind.row(event.value)
