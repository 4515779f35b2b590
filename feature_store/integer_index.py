"""Integer ids to slots, many at a time: a hash table of small buckets in two arrays.

A dictionary of texts needs a text made, hashed and compared for every id, and at some ten thousand items each of these misses
the processor's caches. Here a whole request is a few operations on arrays. The few ids whose bucket is full are kept in a
dictionary.
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
_FEWEST_BITS = 4
_BUCKET = 4
"""Ids of one bucket: half a cache line."""
_ROOM = 6
"""Places per id at least; with so many, one id in some thousands finds its bucket full."""


class IntegerIndex:
    """Ids with a slot each; it grows by itself.

    An empty place holds an id that belongs elsewhere, so that a bucket holds each of its ids at most once and nothing that
    could be taken for one.
    """

    def __init__(self) -> None:
        self._crowded: dict[int, int] = {}
        self._entries = 0
        self._allot(_FEWEST_BITS)

    def __len__(self) -> int:
        return self._entries

    def find(self, ids: Integers) -> Places:
        """The ids' slots, int64 [n], ``ABSENT`` where an id has none."""
        buckets = self._buckets_of(ids)
        hits = (self._keys.take(buckets, axis=0) == ids[:, None]).ravel().nonzero()[0]
        rows = hits // _BUCKET
        places = buckets[rows] * _BUCKET + hits % _BUCKET
        if len(hits) == len(ids):
            slots: Places = self._slots.take(places)
            return slots
        found = np.full(len(ids), ABSENT, np.int64)
        found[rows] = self._slots.take(places)
        if self._crowded:
            for row in np.flatnonzero(found == ABSENT).tolist():
                found[row] = self._crowded.get(int(ids[row]), ABSENT)
        return found

    def put(self, key: int, slot: int) -> None:
        """Give an id its slot, or another one."""
        place = self._place_of(key, key)
        if place is None and key not in self._crowded:
            if _ROOM * self._entries >= self._slots.size:
                self._grow()
            self._entries += 1
            place = self._place_of(key, self._stranger(self._bucket_of(key)))
        if place is None:
            self._crowded[key] = slot
        else:
            self._keys.flat[place] = key
            self._slots[place] = slot

    def remove(self, key: int) -> None:
        """Forget an id; nothing happens where it has no slot."""
        place = self._place_of(key, key)
        if place is not None:
            self._keys.flat[place] = self._stranger(self._bucket_of(key))
            self._entries -= 1
        elif self._crowded.pop(key, None) is not None:
            self._entries -= 1

    def _allot(self, bits: int) -> None:
        self._bits = bits
        self._keys = np.zeros((1 << bits, _BUCKET), np.int64)
        self._keys[0] = 1
        self._slots = np.zeros(self._keys.size, np.int64)

    def _grow(self) -> None:
        """Twice the buckets. All entries move at once: in each round one a bucket."""
        taken = self._keys != np.where(np.arange(len(self._keys)) == 0, 1, 0)[:, None]
        keys, slots = self._keys[taken], self._slots[taken.ravel()]
        crowded = self._crowded
        self._allot(self._bits + 1)
        buckets = self._buckets_of(keys)
        for place in range(_BUCKET):
            _, first = np.unique(buckets, return_index=True)
            self._keys[buckets[first], place] = keys[first]
            self._slots[buckets[first] * _BUCKET + place] = slots[first]
            keys, slots, buckets = (np.delete(array, first) for array in (keys, slots, buckets))
        self._crowded = dict(zip(keys.tolist(), slots.tolist(), strict=True))
        self._entries -= len(crowded)
        for key, slot in crowded.items():
            self.put(key, slot)

    def _buckets_of(self, ids: Integers) -> Places:
        shift = np.uint64(_WORD_BITS - self._bits)
        buckets: Places = ((ids.view(np.uint64) * np.uint64(_GOLDEN)) >> shift).view(np.int64)
        return buckets

    def _bucket_of(self, key: int) -> int:
        return (((key & _WORD) * _GOLDEN) & _WORD) >> (_WORD_BITS - self._bits)

    def _stranger(self, bucket: int) -> int:
        """What an empty place of the bucket holds: 0 belongs into the first one, 1 into another."""
        return 1 if bucket == 0 else 0

    def _place_of(self, key: int, held: int) -> int | None:
        """Where the bucket of ``key`` holds the id ``held``."""
        bucket = self._bucket_of(key)
        places = self._keys[bucket].tolist()
        return bucket * _BUCKET + places.index(held) if held in places else None
