"""Item features inside the process: raw values once, encoded rows per model, gathered without a loop over fields.

A request takes its rows in two steps around the one await on the store, and neither step trusts what the cache held
before the await: ``begin`` copies every row it has, ``fill`` completes the copy with what the store said.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, repeat

import numpy as np

from feature_store.encoding.encoder import Block, FeatureEncoder
from feature_store.item_rows import EncodedItems, EncoderRows, ItemValues, Mask, Places, encode_items

_ABSENT = -1
_SECOND_CHANCES = 16


@dataclass(frozen=True, slots=True)
class CacheRule:
    """How much is kept, and how long.

    A known item is fresh for ``ttl_s``, one that the store does not have for ``unknown_ttl_s``; either is shortened by a
    random share of up to ``jitter``, so that items loaded together do not expire together.
    """

    capacity: int = 200_000
    ttl_s: float = 300.0
    unknown_ttl_s: float = 10.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """Since the start, in rows of requests: ``hits`` were fresh, ``misses`` had to be fetched; then evictions, size now."""

    hits: int
    misses: int
    evictions: int
    held: int


class Lookup:
    """The rows of one request while they are gathered; complete once ``missing`` is empty or was filled."""

    def __init__(self, item_ids: Sequence[str], encoder: FeatureEncoder, items: EncodedItems, held: Mask, fresh: Mask) -> None:
        self.encoder = encoder
        self._items = items
        self._rows = np.flatnonzero(~fresh)
        ids = [item_ids[row] for row in self._rows.tolist()]
        self._place_of = {item_id: place for place, item_id in enumerate(dict.fromkeys(ids))}
        self._places = np.fromiter(map(self._place_of.__getitem__, ids), np.int64, len(ids))
        self._stale = np.zeros(len(self._place_of), np.bool_)
        self._stale[self._places] = held[self._rows]
        self._complete = not ids

    @property
    def missing(self) -> list[str]:
        """Ids to fetch, each once, in the order of the request."""
        return list(self._place_of)

    @property
    def unknown_count(self) -> int:
        """Rows without their item's own features."""
        return int(np.count_nonzero(~self._items.known))

    @property
    def stale_count(self) -> int:
        """Rows whose features have expired and could not be fetched anew."""
        return int(np.count_nonzero(self._stale[self._places]))

    def block(self) -> Block:
        """The encoded rows, in the order of the request.

        Raises:
            RuntimeError: items are missing and ``ItemCache.fill`` was not called.
        """
        if not self._complete:
            raise RuntimeError("the lookup misses items; call ItemCache.fill or fill_defaults first")
        return self._items.block

    def has_stale(self, item_id: str) -> bool:
        """Whether an expired row stands in for the missing item."""
        return bool(self._stale[self._place_of[item_id]])

    def complete(self, item_ids: Sequence[str], items: EncodedItems) -> None:
        """Write the rows of missing items; the missing that are not named keep what they have."""
        source = np.full(len(self._place_of), _ABSENT, np.int64)
        named = [self._place_of[item_id] for item_id in item_ids]
        source[named] = np.arange(len(named))
        self._stale[named] = False
        taken = source[self._places]
        rows, taken = self._rows[taken != _ABSENT], taken[taken != _ABSENT]
        self._items.block.categories[rows] = items.block.categories[taken]
        self._items.block.numbers[rows] = items.block.numbers[taken]
        self._items.known[rows] = items.known[taken]
        self._complete = True


class ItemCache:
    """A bounded cache of item features for one event loop; it holds no lock and awaits nothing."""

    def __init__(
        self,
        rule: CacheRule,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if rule.capacity < 1:
            raise ValueError("the item cache needs a capacity of at least 1")
        self._rule = rule
        self._clock = clock
        self._draw = draw
        self._slot_of: dict[str, int] = {}
        self._ids: list[str] = []
        self._values: list[ItemValues | None] = []
        self._expires_at = np.zeros(rule.capacity, np.float64)
        self._used = np.zeros(rule.capacity, np.bool_)
        self._hand = 0
        self._rows_of: dict[str, EncoderRows] = {}
        self._hits = self._misses = self._evictions = 0

    @property
    def counts(self) -> CacheCounts:
        """Counts so far."""
        return CacheCounts(self._hits, self._misses, self._evictions, len(self._ids))

    @property
    def fingerprints(self) -> frozenset[str]:
        """Encoders that rows are held for."""
        return frozenset(self._rows_of)

    def begin(self, item_ids: Sequence[str], encoder: FeatureEncoder) -> Lookup:
        """Copy every row the cache holds for the items; expired ones too, as a stand-in, but they count as missing."""
        rows = self._rows(encoder)
        slots = np.fromiter(map(self._slot_of.get, item_ids, repeat(_ABSENT)), np.int64, len(item_ids))
        held = slots != _ABSENT
        fresh = held & (self._expires_at[slots] > self._clock())
        self._encode(rows, rows.unencoded(slots[held]))
        self._used[slots[fresh]] = True
        hits = int(np.count_nonzero(fresh))
        self._hits += hits
        self._misses += len(item_ids) - hits
        return Lookup(item_ids, encoder, rows.take(slots), held, fresh)

    def fill(self, lookup: Lookup, found: Mapping[str, ItemValues | None]) -> None:
        """Complete a lookup with what the store said, and keep it.

        Args:
            found: Values of missing items, None where the store certainly has none (kept too, for ``unknown_ttl_s``). A
                missing id that is left out is not kept: its row is the expired one if there was one, else the default.
        """
        ids = [item_id for item_id in lookup.missing if item_id in found or not lookup.has_stale(item_id)]
        items = encode_items(lookup.encoder, ids, [found.get(item_id) for item_id in ids])
        lookup.complete(ids, items)
        kept = np.fromiter((item_id in found for item_id in ids), np.bool_, len(ids))
        self._keep(lookup.encoder, list(compress(ids, kept)), found, _selected(items, kept))

    def fill_defaults(self, lookup: Lookup) -> None:
        """Complete a lookup without the store: expired rows where held, else default rows; nothing is kept."""
        self.fill(lookup, {})

    def retain(self, fingerprints: Iterable[str]) -> None:
        """Drop the encoded rows of every encoder but these; raw values stay."""
        wanted = set(fingerprints)
        self._rows_of = {fingerprint: rows for fingerprint, rows in self._rows_of.items() if fingerprint in wanted}

    def _rows(self, encoder: FeatureEncoder) -> EncoderRows:
        rows = self._rows_of.get(encoder.fingerprint)
        if rows is None:
            rows = self._rows_of[encoder.fingerprint] = EncoderRows(encoder, self._rule.capacity)
        return rows

    def _encode(self, rows: EncoderRows, slots: Places) -> None:
        """Encode held raw values for an encoder that has not seen them yet."""
        if slots.size:
            rows.encode(slots, [self._ids[slot] for slot in slots], [self._values[slot] for slot in slots])

    def _keep(
        self, encoder: FeatureEncoder, ids: list[str], found: Mapping[str, ItemValues | None], items: EncodedItems
    ) -> None:
        for item_id in ids:
            self._place(item_id, found[item_id])
        # With more items than room, or few slots unused, the later ones have pushed out the earlier: keep who is left.
        slots = np.fromiter(map(self._slot_of.get, ids, repeat(_ABSENT)), np.int64, len(ids))
        left = slots != _ABSENT
        rows = self._rows_of.get(encoder.fingerprint)
        if rows is not None:  # else dropped by ``retain`` since the lookup began
            rows.put(slots[left], _selected(items, left))

    def _place(self, item_id: str, values: ItemValues | None) -> None:
        """Put an item's raw values into its slot, or into a free one, or into another's."""
        slot = self._slot_of.get(item_id)
        if slot is None:
            slot = self._free_slot()
            self._slot_of[item_id] = slot
            self._ids[slot] = item_id
        ttl_s = self._rule.unknown_ttl_s if values is None else self._rule.ttl_s
        self._values[slot] = values
        self._expires_at[slot] = self._clock() + ttl_s * (1 - self._rule.jitter * self._draw())
        for rows in self._rows_of.values():
            rows.forget(slot)

    def _free_slot(self) -> int:
        if len(self._ids) < self._rule.capacity:
            self._ids.append("")
            self._values.append(None)
            return len(self._ids) - 1
        return self._evict()

    def _evict(self) -> int:
        """A slot by the clock algorithm; after some second chances the next is taken as it comes, so the work is bounded."""
        capacity = self._rule.capacity
        for _ in range(_SECOND_CHANCES):
            if not self._used[self._hand]:
                break
            self._used[self._hand] = False
            self._hand = (self._hand + 1) % capacity
        slot = self._hand
        self._hand = (slot + 1) % capacity
        del self._slot_of[self._ids[slot]]
        self._used[slot] = False
        self._evictions += 1
        return slot


def _selected(items: EncodedItems, mask: Mask) -> EncodedItems:
    return EncodedItems(Block(items.block.categories[mask], items.block.numbers[mask]), items.known[mask])
