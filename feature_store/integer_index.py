"""Integer ids to slots, many at a time: a hash table with linear probing in two arrays (Knuth, TAOCP vol. 3, 6.4).

A dictionary of texts needs a text made, hashed and compared for every id, and at some ten thousand items each of these misses
the processor's caches. Here a whole request is some ten operations on arrays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]

ABSENT = -1
_GOLDEN = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: Fibonacci hashing spreads ids that count up as well as those that do not."""
_WORD_BITS = 64
_WORD = (1 << _WORD_BITS) - 1
_ROOM = 4
"""Places per entry: at most every fourth is taken, so that hardly any id needs a second look."""
_EMPTY, _REMOVED = 0, -1


class IntegerIndex:
    """At most ``capacity`` ids with a slot each. Memory is taken as entries come."""

    def __init__(self, capacity: int) -> None:
        bits = max(4, (_ROOM * capacity - 1).bit_length())
        self._size = 1 << bits
        self._shift = _WORD_BITS - bits
        self._clear()

    def __len__(self) -> int:
        return self._entries

    def find(self, ids: Integers) -> Places:
        """The ids' slots, int64 [n], ``ABSENT`` where an id has none."""
        places = ((ids.view(np.uint64) * np.uint64(_GOLDEN)) >> np.uint64(self._shift)).view(np.int64)
        values = self._values[places]
        right = self._keys[places] == ids
        right &= values > 0
        found: Places = np.where(right, values, 0).astype(np.int64)
        # Whatever met neither itself nor an empty place looks on; usually next to nobody.
        seeking = np.flatnonzero(~right & (values != _EMPTY))
        while len(seeking):
            places[seeking] = (places[seeking] + 1) & (self._size - 1)
            values = self._values[places[seeking]]
            right = (self._keys[places[seeking]] == ids[seeking]) & (values > 0)
            found[seeking[right]] = values[right]
            seeking = seeking[~right & (values != _EMPTY)]
        found -= 1
        return found

    def put(self, key: int, slot: int) -> None:
        """Give an id its slot, or another one."""
        place = self._place_of(key)
        if place is None:
            if self._used * 2 >= self._size:
                self._sweep()
            place = self._free_place(key)
            self._used += int(self._values[place]) == _EMPTY
            self._entries += 1
            self._keys[place] = key
        self._values[place] = slot + 1

    def remove(self, key: int) -> None:
        """Forget an id; nothing happens where it has no slot."""
        place = self._place_of(key)
        if place is not None:
            self._values[place] = _REMOVED
            self._entries -= 1

    def _clear(self) -> None:
        self._keys = np.zeros(self._size, np.int64)
        self._values = np.zeros(self._size, np.int32)  # slot + 1
        self._entries = self._used = 0

    def _sweep(self) -> None:
        """Removed entries keep their places, since others may have been put behind them: make them free again."""
        kept = self._values > 0
        keys, values = self._keys[kept].tolist(), self._values[kept].tolist()
        self._clear()
        for key, value in zip(keys, values, strict=True):
            self.put(key, value - 1)

    def _first_place(self, key: int) -> int:
        return (((key & _WORD) * _GOLDEN) & _WORD) >> self._shift

    def _place_of(self, key: int) -> int | None:
        place = self._first_place(key)
        while (value := int(self._values[place])) != _EMPTY:
            if value > 0 and int(self._keys[place]) == key:
                return place
            place = (place + 1) & (self._size - 1)
        return None

    def _free_place(self, key: int) -> int:
        place = self._first_place(key)
        while int(self._values[place]) > 0:
            place = (place + 1) & (self._size - 1)
        return place
