"""How long stored values may be used: the ``ttl_s`` of the feature views, enforced at every read.

A field's age is the age of the record that holds it (``written_at``, Unix seconds of the writer's clock), since users and items
are written whole. A value older than its field's TTL counts as missing, and is told as stale.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from feature_store.encoding.values import RawValue
from feature_store.item_rows import ItemFeatures
from feature_store.records import FeatureRecord
from feature_store.views import Entity


@dataclass(frozen=True, slots=True)
class FreshnessRule:
    """The TTLs of one entity's fields in seconds; None means for ever.

    ``default_ttl_s`` holds for every field that ``ttl_s`` does not name: those that older or newer views declare, too.
    """

    ttl_s: Mapping[str, float | None] = field(default_factory=dict)
    default_ttl_s: float | None = None
    expires: bool = field(init=False)
    """Whether any field ever expires; known once, since it is asked for every user and item that is read."""

    def __post_init__(self) -> None:
        ever = self.default_ttl_s is not None or any(ttl_s is not None for ttl_s in self.ttl_s.values())
        object.__setattr__(self, "expires", ever)

    @classmethod
    def of(cls, entity: Entity) -> Self:
        """The rule that the views declare for the users or the items."""
        own = {each.name: each.ttl_s for each in entity.fields if each.ttl_s is not None}
        return cls(own, entity.ttl_s)

    def ttl_of(self, name: str) -> float | None:
        """The TTL of a field."""
        return self.ttl_s.get(name, self.default_ttl_s)


NEVER_EXPIRES = FreshnessRule()


@dataclass(frozen=True, slots=True)
class FreshFeatures:
    """What is left of a record: ``values`` still good, the names of the ``stale`` ones, sorted, and the record's age.

    ``expires_in_s`` is the time until the next of the good values expires, None if none ever does.
    """

    values: Mapping[str, RawValue]
    stale: tuple[str, ...]
    age_s: float
    expires_in_s: float | None


def age_s(written_at: float, now: float) -> float:
    """Age in seconds, both in Unix seconds; never below 0: a clock that went back makes nothing stale."""
    return max(0.0, now - written_at)


def fresh_values(record: FeatureRecord, rule: FreshnessRule, now: float) -> FreshFeatures:
    """The part of a record that may be used at ``now`` (Unix seconds); a value exactly as old as its TTL still may."""
    age = age_s(record.written_at, now)
    if not rule.expires:
        return FreshFeatures(record.values, (), age, None)
    values: dict[str, RawValue] = {}
    stale = []
    left: list[float] = []
    for name, value in record.values.items():
        ttl_s = rule.ttl_of(name)
        if ttl_s is None or value is None:
            values[name] = value
        elif age > ttl_s:
            stale.append(name)
        else:
            values[name] = value
            left.append(ttl_s - age)
    return FreshFeatures(values, tuple(sorted(stale)), age, min(left, default=None))


class ItemFreshness:
    """One rule and one clock for all that fill the item cache: requests, the preload, the refresher."""

    def __init__(self, rule: FreshnessRule = NEVER_EXPIRES, wall_clock: Callable[[], float] = time.time) -> None:
        self._rule = rule
        self._wall_clock = wall_clock

    def of(self, items: Mapping[str, FeatureRecord | None]) -> dict[str, ItemFeatures | None]:
        """What may be used now of the items' records, None where the store has none."""
        now = self._wall_clock()
        return {item_id: None if record is None else self._features(record, now) for item_id, record in items.items()}

    def _features(self, record: FeatureRecord, now: float) -> ItemFeatures:
        if not self._rule.expires:
            return ItemFeatures(record.values)
        fresh = fresh_values(record, self._rule, now)
        return ItemFeatures(fresh.values, fresh.stale, fresh.expires_in_s)
