"""What the store holds of a user, read as the ranker reads it, and told field by field with every fault named.

Everything here comes from outside and may be anything: nothing is raised, whatever the bytes are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar

from feature_store.counters import EventCount, counts_at, decode_counters
from feature_store.encoding.categories import CategoryColumn, HashedIds
from feature_store.encoding.numbers import NumberColumn
from feature_store.encoding.values import RawValue, ValueRefusedError
from feature_store.errors import RecordError
from feature_store.freshness import NEVER_EXPIRES, FreshnessRule, age_s, fresh_values
from feature_store.records import FeatureRecord, HistoryRecord, decode_features, decode_history
from feature_store.views import CategoriesField, Entity, FeatureViews, NumberField, ViewField

Status = Literal["present", "missing", "stale", "refused", "undeclared"]
RecordT = TypeVar("RecordT")
WRONG_TYPE = "wrong_type"


@dataclass(frozen=True, slots=True)
class RawLook:
    """What is under a key. ``kind`` is its Redis type, None where there is no key; the rest is None where it is not known.

    ``value`` may end behind the longest that a reader accepts; ``bytes`` is its whole length.
    """

    key: bytes
    kind: str | None = None
    value: bytes | None = None
    bytes: int | None = None
    memory_bytes: int | None = None
    expires_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class StoredSeen:
    """One key: what it costs, how old its record is, and the ``fault`` for which a reader would not use it."""

    key: str
    found: bool
    fault: str | None
    detail: str
    bytes: int | None
    memory_bytes: int | None
    expires_in_s: float | None
    written_at: float | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class FieldSeen:
    """One field; ``undeclared`` means that the record has a value of it, but the views have no such field."""

    name: str
    status: Status
    value: RawValue
    ttl_s: float | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FeaturesSeen:
    """The features of a user or an item."""

    owner: str
    stored: StoredSeen
    event_time: float | None
    fields: list[FieldSeen]


@dataclass(frozen=True, slots=True)
class EventSeen:
    """One event of a history; ``date`` only where the views say what the time counts."""

    item: str
    time: float
    date: str | None


@dataclass(frozen=True, slots=True)
class HistorySeen:
    """The history, newest event first; ``cap`` is how many events the views keep."""

    stored: StoredSeen
    version: int | None
    cap: int | None
    events: list[EventSeen]


@dataclass(frozen=True, slots=True)
class RateSeen:
    """A count that decays with a half-life, now; ``per_s`` is the rate of events that it stands for."""

    half_life_s: float
    decayed: float
    per_s: float


@dataclass(frozen=True, slots=True)
class CountSeen:
    """Events of one type: all of them and the newest one's time. ``date`` and ``rates`` only with the views' unit of time."""

    count: float
    newest: float
    date: str | None
    rates: list[RateSeen]


@dataclass(frozen=True, slots=True)
class CountersSeen:
    """The counters of a user's or an item's events by type."""

    stored: StoredSeen
    types: dict[str, CountSeen]


@dataclass(frozen=True, slots=True)
class UserSeen:
    """All that was asked for."""

    user_id: str
    features: FeaturesSeen
    history: HistorySeen
    counters: CountersSeen
    items: list[FeaturesSeen]
    item_counters: list[CountersSeen]

    @property
    def found(self) -> bool:
        """Whether there is anything of the user, sound or not."""
        return any(part.stored.found for part in (self.features, self.history, self.counters))


def features_seen(owner: str, look: RawLook, entity: Entity | None, now: float) -> FeaturesSeen:
    """The features of a user or an item; without its ``entity`` of the views every stored value counts as present."""
    record, stored = _read(look, owner, decode_features, now)
    rule = NEVER_EXPIRES if entity is None else FreshnessRule.of(entity)
    declared = {} if entity is None else {field.name: field for field in entity.fields}
    names = list(dict.fromkeys([*declared, *({} if record is None else record.values)]))
    stale = () if record is None else fresh_values(record, rule, now).stale
    fields = []
    for name in names:
        value = None if record is None else record.values.get(name)
        status, detail = _status(value, declared.get(name), known=entity is not None, stale=name in stale)
        fields.append(FieldSeen(name, status, value, rule.ttl_of(name), detail))
    return FeaturesSeen(owner, stored, None if record is None else record.event_time, fields)


def history_seen(user_id: str, look: RawLook, views: FeatureViews | None, now: float) -> HistorySeen:
    """The history; dates where the views declare events, and with them the unit of the time column."""
    record, stored = _read(look, user_id, decode_history, now)
    cap = None if views is None else views.history.length
    if record is None:
        return HistorySeen(stored, None, cap, [])
    units = _units_per_s(views)
    pairs = zip(reversed(record.items), reversed(record.times), strict=True)
    events = [EventSeen(item, time, None if units is None else date_of(time / units)) for item, time in pairs]
    return HistorySeen(stored, record.version, cap, events)


def counters_seen(owner: str, look: RawLook, views: FeatureViews | None, now: float) -> CountersSeen:
    """The counters of the owner's events; decayed until now where the views say what the time column counts."""
    record, stored = _read(look, owner, decode_counters, now)
    if record is None:
        return CountersSeen(stored, {})
    units = _units_per_s(views)
    counts = counts_at(record, 0.0 if units is None else now * units)
    return CountersSeen(stored, {name: _count_seen(each, units) for name, each in counts.items()})


def _count_seen(count: EventCount, units_per_s: float | None) -> CountSeen:
    if units_per_s is None:
        return CountSeen(count.count, count.newest, None, [])
    rates = [
        RateSeen(each / units_per_s, decayed, min(count.rate(each) * units_per_s, sys.float_info.max))
        for each, decayed in count.decayed.items()
    ]
    return CountSeen(count.count, count.newest, date_of(count.newest / units_per_s), rates)


def _units_per_s(views: FeatureViews | None) -> float | None:
    return None if views is None or views.events is None else views.events.units_per_s


def date_of(seconds: float) -> str | None:
    """Unix seconds as a date and time in UTC, None where the calendar has none."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return None


def _read(look: RawLook, owner: str, decode: Callable[[bytes, str], RecordT], now: float) -> tuple[RecordT | None, StoredSeen]:
    """The record, if a reader would use it, and what there is to say of its key."""
    record, fault, detail = None, None, ""
    if look.kind not in (None, "string"):
        fault, detail = WRONG_TYPE, f"a Redis {look.kind}, where a string is needed"
    elif look.value is not None:
        try:
            record = decode(look.value, owner)
        except RecordError as error:
            fault, detail = error.kind, str(error)
    seen = StoredSeen(
        key=look.key.decode("utf-8", "surrogatepass"),
        found=look.kind is not None,
        fault=fault,
        detail=detail,
        bytes=look.bytes,
        memory_bytes=look.memory_bytes,
        expires_in_s=look.expires_in_s,
        written_at=_written_at(record),
        age_s=None if (written := _written_at(record)) is None else age_s(written, now),
    )
    return record, seen


def _written_at(record: object) -> float | None:
    return record.written_at if isinstance(record, FeatureRecord | HistoryRecord) else None


def _status(value: RawValue, field: ViewField | None, *, known: bool, stale: bool) -> tuple[Status, str]:
    """What becomes of a value, and why; ``known``: there are views to go by."""
    if value is None:
        return "missing", ""
    if known and field is None:
        return "undeclared", "the views have no such field"
    if stale:
        return "stale", "older than its TTL"
    if field is None:
        return "present", ""
    try:
        _column(field).encode([value])
    except ValueRefusedError as error:
        return "refused", str(error)
    return "present", ""


def _column(field: ViewField) -> CategoryColumn | NumberColumn:
    """A column that accepts exactly what a model's own would."""
    if isinstance(field, NumberField):
        return NumberColumn(field.name, "none", fill=0.0, shift=0.0, scale=1.0)
    return CategoryColumn(field.name, HashedIds(field.name, 2), slots=1, multiple=isinstance(field, CategoriesField))
