"""Item features inside the process: raw values once, encoded rows per model, gathered without a loop over fields.

A request takes its rows in two steps around the one await on the store, and neither step trusts what the cache held
before the await: ``begin`` copies every row it has, ``fill`` completes the copy with what the store said.

No row is fresh for longer than its values are: when the next of them expires, the item is read again, and comes without it.

Reads overlap: of two that bring the same item, the one that began last is kept. So a slow read that saw an item before it
changed never undoes the refresh that follows the change.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feature_store.encoding.encoder import Block, FeatureEncoder
from feature_store.item_encodings import ItemEncodings
from feature_store.item_lookup import Gaps, Lookup
from feature_store.item_rows import ItemFeatures, LateBlock, Mask, Places
from feature_store.item_slots import ABSENT, ItemSlots
from feature_store.item_table import ItemTable


@dataclass(frozen=True, slots=True)
class CacheRule:
    """How much is kept, and how long.

    A known item is fresh for ``ttl_s``, one that the store does not have for ``unknown_ttl_s``; either is shortened by a
    random share of up to ``jitter``, so that items loaded together do not expire together; and an item whose values expire
    sooner (``ItemFeatures.expires_in_s``) is fresh until then. ``capacity`` counts known items;
    unknown ones have room of their own, ``unknown_share`` of it (at least one), and the oldest of them leaves first.

    Raises:
        ValueError: no room, or a share that is not above 0 and at most 1.
    """

    capacity: int = 200_000
    ttl_s: float = 300.0
    unknown_ttl_s: float = 10.0
    jitter: float = 0.2
    unknown_share: float = 0.1

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError("the item cache needs a capacity of at least 1")
        if not 0 < self.unknown_share <= 1:
            raise ValueError("unknown_share must be above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """``hits`` and ``misses`` are rows of requests that were fresh, or had to be fetched, since the start.

    Since the start, too: ``evictions`` of known items, and ``refreshed`` rows replaced in place. Now: ``held`` known items
    and ``unknown`` ones.
    """

    hits: int
    misses: int
    evictions: int
    held: int
    unknown: int
    refreshed: int


class ItemCache:
    """A bounded cache of item features for one event loop; it holds no lock and awaits nothing."""

    def __init__(
        self,
        rule: CacheRule,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._rule = rule
        self._clock = clock
        self._draw = draw
        self._slots = ItemSlots(rule.capacity, max(1, int(rule.capacity * rule.unknown_share)))
        self._encodings = ItemEncodings(self._slots)
        self._stale_fields: dict[int, tuple[str, ...]] = {}  # only slots that have some: mostly none at all
        self._is_stale: Mask = np.zeros(self._slots.total + 1, np.bool_)
        # Behind the last slot stands what the index of no slot finds: nothing stale, and never fresh.
        self._expires_at = np.zeros(self._slots.total + 1, np.float64)
        self._expires_at[-1] = -np.inf
        self._read_at = np.zeros(self._slots.total, np.int64)
        self._moment = self._changed_at = 0
        self._hits = self._misses = self._refreshed = 0

    @property
    def counts(self) -> CacheCounts:
        """Counts so far."""
        slots = self._slots
        return CacheCounts(self._hits, self._misses, slots.evictions, slots.known_count, slots.unknown_count, self._refreshed)

    @property
    def fingerprints(self) -> frozenset[str]:
        """Encoders that rows are held for."""
        return self._encodings.fingerprints

    @property
    def slot_count(self) -> int:
        """Slots for items of either kind: the range of ``outdated_between``."""
        return self._slots.total

    def moment(self) -> int:
        """A number above all before: note it when a read begins, and hand it in with what the read brought."""
        self._moment += 1
        return self._moment

    def begin(self, item_ids: Sequence[str], encoder: FeatureEncoder, table: ItemTable | None = None) -> Lookup:
        """Copy every row the cache holds for the items; expired ones too, as a stand-in, but they count as missing.

        With a ``table`` its rows are copied, and, where nothing is missing, the encoded ones only if they are asked for or
        about to change.
        """
        rows = self._encodings.rows(encoder)
        slots = self._slots.find(item_ids)
        gaps = self._gaps(item_ids, slots)
        part = self._encodings.late_part(rows, table, slots) if gaps is None else self._encodings.part(rows, table, slots)
        block: Block | LateBlock = rows.block(slots) if table is None or gaps is not None else rows.promise(slots)
        stale = self._stale_among(item_ids, slots) if self._stale_fields else {}
        return Lookup(
            encoder, block, rows.known(slots), gaps=gaps, stale_fields=stale, moment=self.moment(), table=table, part=part
        )

    def fill(self, lookup: Lookup, found: Mapping[str, ItemFeatures | None]) -> None:
        """``keep`` what the store said, and ``complete`` the lookup with it."""
        self.keep(found, lookup.moment)
        self.complete(lookup, found)

    def fill_defaults(self, lookup: Lookup) -> None:
        """Complete a lookup without the store: expired rows where held, else default rows; nothing is kept."""
        self.complete(lookup, {})

    def keep(self, found: Mapping[str, ItemFeatures | None], moment: int) -> None:
        """Keep what a read begun at ``moment`` said: features, or None where the store certainly has none.

        An item that was read, or told to have changed, since that moment is left as it is.
        """
        for item_id in [item_id for item_id in found if self._is_news(item_id, moment)]:
            self._place(item_id, found[item_id], moment)

    def complete(self, lookup: Lookup, found: Mapping[str, ItemFeatures | None]) -> None:
        """Give a lookup its missing rows; an id not in ``found`` has its expired row if there was one, else the default."""
        missing = lookup.missing
        if not missing:
            return
        ids = [item_id for item_id in missing if item_id in found or not lookup.has_stale(item_id)]
        features = [found.get(item_id) for item_id in ids]
        values = [None if each is None else each.values for each in features]
        encoded, part = self._encodings.complete(lookup.encoder, lookup.table, ids, values)
        stale = {item_id: each.stale for item_id, each in zip(ids, features, strict=True) if each}
        lookup.complete(ids, encoded, stale, part)

    def outdated(self, item_ids: Iterable[str]) -> list[str]:
        """These items have changed in the store: those held, which go on being served until they are replaced.

        Those known as absent are dropped, and reads under way of any other are not kept, since they may have come too early.
        """
        self._changed_at = self.moment()
        return [item_id for item_id in item_ids if self._outlives_change(item_id)]

    def outdated_between(self, start: int, stop: int) -> list[str]:
        """The same for whichever items are in the slots ``start .. stop``."""
        ids = (self._slots.id_of(slot) for slot in range(start, min(stop, self._slots.total)))
        return self.outdated(item_id for item_id in ids if item_id)

    def replace(self, found: Mapping[str, ItemFeatures | None], moment: int) -> None:
        """Replace items that are held by what a read begun at ``moment`` said, encoded at once for every model's encoder.

        Their rows in item tables are derived at once, too: no request meets a cold one.
        """
        news = {item_id: found[item_id] for item_id in found if self._holds(item_id) and self._is_news(item_id, moment)}
        slots = self._slots.find([item_id for item_id, features in news.items() if features is not None])
        encoded = self._encodings.held(slots)
        for item_id, features in news.items():
            self._place(item_id, features, moment)
        for rows, mask in encoded:
            self._encodings.encode(rows, slots[mask])
            rows.derive(slots[mask])
        self._refreshed += len(news)

    def retain(self, fingerprints: Iterable[str]) -> None:
        """Drop the encoded rows of every encoder but these; raw values stay."""
        self._encodings.retain(fingerprints)

    def _holds(self, item_id: str) -> bool:
        slot = self._slots.slot_of(item_id)
        return slot is not None and self._slots.is_known(slot)

    def _outlives_change(self, item_id: str) -> bool:
        if self._holds(item_id):
            return True
        if self._slots.slot_of(item_id) is not None:
            self._slots.drop(item_id)
        return False

    def _is_news(self, item_id: str, moment: int) -> bool:
        slot = self._slots.slot_of(item_id)
        return moment >= (self._changed_at if slot is None else self._read_at[slot])

    def _gaps(self, item_ids: Sequence[str], slots: Places) -> Gaps | None:
        """What is not fresh, None if nothing; counts hits and misses, and marks the fresh as used."""
        expires_at, now = self._expires_at[slots], self._clock()
        if expires_at.min(initial=np.inf) > now:
            self._slots.use(slots)
            self._hits += len(slots)
            return None
        fresh = expires_at > now
        self._slots.use(slots[fresh])
        hits = int(np.count_nonzero(fresh))
        self._hits += hits
        self._misses += len(slots) - hits
        return Gaps(item_ids, held=slots != ABSENT, fresh=fresh)

    def _stale_among(self, item_ids: Sequence[str], slots: Places) -> dict[str, tuple[str, ...]]:
        """The expired fields of those items whose slot has some."""
        rows = np.flatnonzero(self._is_stale[slots])
        return {item_ids[row]: self._stale_fields[slot] for row, slot in zip(rows.tolist(), slots[rows].tolist(), strict=True)}

    def _place(self, item_id: str, features: ItemFeatures | None, moment: int) -> None:
        """Put an item's raw values into its slot, or into a free one, or into another's."""
        slot = self._slots.place(item_id, known=features is not None)
        self._encodings.put(slot, None if features is None else features.values)
        self._expires_at[slot] = self._clock() + self._lifetime_s(features)
        self._read_at[slot] = moment
        self._stale_fields.pop(slot, None)
        if features is not None and features.stale:
            self._stale_fields[slot] = features.stale
        self._is_stale[slot] = slot in self._stale_fields

    def _lifetime_s(self, features: ItemFeatures | None) -> float:
        ttl_s = self._rule.unknown_ttl_s if features is None else self._rule.ttl_s
        lifetime_s = ttl_s * (1 - self._rule.jitter * self._draw())
        return lifetime_s if features is None or features.expires_in_s is None else min(lifetime_s, features.expires_in_s)
