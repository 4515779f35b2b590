"""Which item is in which slot of the item cache.

Items that the store has live in the slots ``0 .. capacity``; those it does not have in ``unknown_capacity`` slots behind them.
Neither ever takes the other's room, so a flood of invented ids costs no real item its place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import repeat

import numpy as np

from feature_store.integer_ids import IntegerIds
from feature_store.integer_index import ABSENT, IntegerIndex
from feature_store.item_rows import Mask, Places

__all__ = ["ABSENT", "ItemSlots"]

_SECOND_CHANCES = 16
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
"""What ``str`` makes of an integer: no other text is the name of a number."""
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1


class ItemSlots:
    """Places items: known ones leave by the clock algorithm, unknown ones in the order in which they were last placed."""

    def __init__(self, capacity: int, unknown_capacity: int) -> None:
        self._capacity = capacity
        self.total = capacity + unknown_capacity
        self._slot_of: dict[str, int] = {}
        self._id_of = [""] * self.total
        self._used: Mask = np.zeros(self.total, np.bool_)
        self._next = self._hand = 0
        self._free: list[int] = []
        self._unknown: dict[str, None] = {}
        self._free_unknown = list(range(self.total - 1, capacity - 1, -1))
        self._by_number: IntegerIndex | None = None  # made when first asked for
        self.evictions = 0

    @property
    def known_count(self) -> int:
        """Slots that hold an item the store has."""
        return len(self._slot_of) - len(self._unknown)

    @property
    def unknown_count(self) -> int:
        """Slots that hold an item the store does not have."""
        return len(self._unknown)

    def find(self, item_ids: Sequence[str]) -> Places:
        """The items' slots, ``ABSENT`` where an item has none."""
        if not isinstance(item_ids, IntegerIds):
            return np.fromiter(map(self._slot_of.get, item_ids, repeat(ABSENT)), np.int64, len(item_ids))
        if self._by_number is None:
            index = IntegerIndex()
            for item_id, slot in self._slot_of.items():
                _note(index, item_id, slot)
            self._by_number = index
        return self._by_number.find(item_ids.values)

    def slot_of(self, item_id: str) -> int | None:
        """The item's slot, if it has one."""
        return self._slot_of.get(item_id)

    def id_of(self, slot: int) -> str:
        """The item in a slot; the empty text where there is none."""
        return self._id_of[slot]

    def is_known(self, slot: int) -> bool:
        """Whether the slot is one for items that the store has."""
        return slot < self._capacity

    def use(self, slots: Places) -> None:
        """The slots' items were asked for: each has earned a second chance."""
        self._used[slots] = True

    def place(self, item_id: str, *, known: bool) -> int:
        """A slot for the item among its kind; whoever holds it leaves."""
        slot = self._slot_of.get(item_id)
        if slot is not None:
            if known and self.is_known(slot):
                return slot
            self.drop(item_id)
        slot = self._known_slot() if known else self._unknown_slot()
        self._slot_of[item_id] = slot
        self._id_of[slot] = item_id
        self._number(item_id, slot)
        if not known:
            self._unknown[item_id] = None
        return slot

    def drop(self, item_id: str) -> None:
        """Forget an item that has a slot."""
        slot = self._slot_of.pop(item_id)
        self._id_of[slot] = ""
        self._number(item_id, ABSENT)
        self._used[slot] = False
        if self.is_known(slot):
            self._free.append(slot)
        else:
            del self._unknown[item_id]
            self._free_unknown.append(slot)

    def _number(self, item_id: str, slot: int) -> None:
        """Note the slot, ``ABSENT`` for none, of an id that is the text of a number of 64 bits, as ``str`` writes it."""
        if self._by_number is not None:
            _note(self._by_number, item_id, slot)

    def _known_slot(self) -> int:
        if not self._free and self._next < self._capacity:
            self._next += 1
            return self._next - 1
        if not self._free:
            self._evict()
        return self._free.pop()

    def _unknown_slot(self) -> int:
        if not self._free_unknown:
            self.drop(next(iter(self._unknown)))
        return self._free_unknown.pop()

    def _evict(self) -> None:
        """Make room by the clock algorithm; after some second chances the next leaves as it comes: the work is bounded."""
        for _ in range(_SECOND_CHANCES):
            if not self._used[self._hand]:
                break
            self._used[self._hand] = False
            self._hand = (self._hand + 1) % self._capacity
        self.drop(self._id_of[self._hand])
        self._hand = (self._hand + 1) % self._capacity
        self.evictions += 1


def _note(index: IntegerIndex, item_id: str, slot: int) -> None:
    if _NUMBER.fullmatch(item_id) is None:
        return
    number = int(item_id)
    if not _INT64_MIN <= number <= _INT64_MAX:
        return
    if slot == ABSENT:
        index.remove(number)
    else:
        index.put(number, slot)
