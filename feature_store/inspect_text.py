"""What ``inspect`` found, as text for a terminal. Ids and values come from outside: nothing unprintable is printed as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain

from feature_store.encoding.values import RawValue
from feature_store.inspect import CountersSeen, FeaturesSeen, FieldSeen, HistorySeen, StoredSeen, UserSeen, date_of

_LONGEST = 120
_NAME_WIDTH = 32
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def text_of(seen: UserSeen) -> str:
    """The whole report, ending in a line break."""
    parts = chain(
        [f"user {visible(seen.user_id)}", ""],
        _features("features", seen.features),
        _history(seen.history),
        _counters("counters", seen.counters),
        *(
            chain(_features(f"item {visible(item.owner)}", item), _counters(f"item {visible(item.owner)}, counters", counters))
            for item, counters in zip(seen.items, seen.item_counters, strict=True)
        ),
    )
    return "\n".join(parts).rstrip("\n") + "\n"


def visible(text: str) -> str:
    """Text with every character that could move a cursor, or hide, as an escape; a backslash is doubled. Cut when long."""
    return _cut(_escaped(text.replace("\\", "\\\\")))


def duration(seconds: float) -> str:
    """A length of time, in the largest unit of which there is one."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _escaped(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"


def _value(value: RawValue) -> str:
    return "" if value is None else _cut(_escaped(json.dumps(value, ensure_ascii=False)))


def _features(title: str, seen: FeaturesSeen) -> Iterator[str]:
    yield _headline(title, seen.stored)
    for field in seen.fields:
        yield _field(field)
    yield ""


def _field(field: FieldSeen) -> str:
    ttl = "" if field.ttl_s is None else f"ttl {duration(field.ttl_s)}"
    notes = "; ".join(_cut(_escaped(note)) for note in (field.detail, ttl) if note)
    line = f"  {visible(field.name):<{_NAME_WIDTH}} {field.status:<10} {_value(field.value)}"
    return f"{line}  ({notes})" if notes else line.rstrip()


def _history(seen: HistorySeen) -> Iterator[str]:
    extra = []
    if seen.version is not None:
        cap = "" if seen.cap is None else f" of at most {seen.cap:,}"
        extra = [f"version {seen.version:,}", f"{len(seen.events):,}{cap} events, newest first"]
    yield _headline("history", seen.stored, *extra)
    for place, event in enumerate(seen.events, 1):
        yield f"  {place:>4}  {event.date or f'{event.time:.15g}':<26} {visible(event.item)}"
    yield ""


def _counters(title: str, seen: CountersSeen) -> Iterator[str]:
    yield _headline(title, seen.stored)
    for name, each in seen.types.items():
        yield f"  {visible(name):<{_NAME_WIDTH}} {each.count:,.15g}, the newest {each.date or f'at {each.newest:.15g}'}"
        for rate in each.rates:
            label = f"  half-life {duration(rate.half_life_s)}"
            yield f"  {label:<{_NAME_WIDTH}} {rate.decayed:.4g} decayed, {rate.per_s * 3_600:.4g} an hour"
    yield ""


def _headline(title: str, stored: StoredSeen, *extra: str) -> str:
    if not stored.found:
        return f"{title}: none under {visible(stored.key)}"
    facts = []
    if stored.fault is not None:
        facts.append(f"NOT USED, {stored.fault}: {_cut(_escaped(stored.detail))}")
    if stored.age_s is not None and stored.written_at is not None:
        facts.append(f"written {date_of(stored.written_at) or f'{stored.written_at:g}'} ({duration(stored.age_s)} ago)")
    facts += extra
    facts.append("size unknown" if stored.bytes is None else f"{stored.bytes:,} bytes")
    if stored.memory_bytes is not None:
        facts.append(f"{stored.memory_bytes:,} in memory")
    if stored.expires_in_s is not None:
        facts.append(f"the key expires in {duration(stored.expires_in_s)}")
    return f"{title}: {visible(stored.key)}: {', '.join(facts)}"
