"""The item part of a collapsed model: rows derived from encoded items, gathered in the place of their features.

Rows of the catalogue were computed when the version was published and are shared by all processes as one read-only memory map.
Such a row serves an item exactly while the item's encoded features are those it was computed from. All other rows (features
that changed since, items that arrived since) are computed once and kept privately, by the slot of the item cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.encoding.encoder import Block, Floats

if TYPE_CHECKING:
    from feature_store.item_rows import EncoderRows, Mask, Places

COMPUTE_ROWS = 4_096
"""Rows of one call of ``compute``: it runs on the event loop, and nobody else does meanwhile."""
_OWN = -1
_INVALID = -2


@dataclass(frozen=True, slots=True)
class BaseRows:
    """Rows by vocabulary id of the item key: ``rows`` float32 [ids, width], made from ``inputs`` [ids].

    ``key_slot`` is the column of ``Block.categories`` that holds the item key's id.
    """

    rows: Floats
    inputs: Block
    key_slot: int


class SharedRows:
    """Rows of the shared ones by place, gathered when they are needed: they never change, so this may be late.

    What is gathered just before it is used is still in the processor's caches. It stands for its array: shape, type, slices
    and ``numpy.asarray`` are those of float32 [n, width].
    """

    __slots__ = ("_places", "_rows", "shape")

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, rows: Floats, places: Places) -> None:
        self._rows = rows
        self._places = places
        self.shape = (len(places), rows.shape[1])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, part: slice) -> SharedRows:
        return SharedRows(self._rows, self._places[part])

    def gather(self) -> Floats:
        """The rows as an array of their own."""
        return self._rows.take(self._places, axis=0)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.gather() if dtype is None else self.gather().astype(dtype, copy=False)


class RowSource:
    """Where a table's rows come from: the shared ones, and the computation of all others. Knows no cache."""

    def __init__(self, width: int, compute: Callable[[Block], Floats], base: BaseRows | None) -> None:
        self.width = width
        self._compute = compute
        self._inputs: Block | None = None
        self._key_slot = 0
        self.shared: Floats = np.empty((0, width), np.float32)
        if base is not None:
            # Plain views of the maps: arrays of numpy's memmap class are slower to take from.
            self.shared = base.rows.view(np.ndarray)
            self._inputs = Block(base.inputs.categories.view(np.ndarray), base.inputs.numbers.view(np.ndarray))
            self._key_slot = base.key_slot

    def compute(self, block: Block) -> Floats:
        """Rows of encoded items, [n, width], in calls of at most ``COMPUTE_ROWS``.

        Raises:
            ValueError: what was computed has another shape or type.
        """
        count = len(block.categories)
        rows = np.empty((count, self.width), np.float32)
        for start in range(0, count, COMPUTE_ROWS):
            stop = min(start + COMPUTE_ROWS, count)
            made = self._compute(Block(block.categories[start:stop], block.numbers[start:stop]))
            if made.shape != (stop - start, self.width) or made.dtype != np.float32:
                expected = f"float32 {[stop - start, self.width]}"
                raise ValueError(f"item rows: {expected} is needed, not {made.dtype} {list(made.shape)}")
            rows[start:stop] = made
        return rows

    def shared_places(self, block: Block) -> Places:
        """For each encoded item the shared row that was computed from the very same features, or a negative number."""
        if self._inputs is None:
            return np.full(len(block.categories), _OWN, np.int64)
        ids = block.categories[:, self._key_slot].astype(np.int64)
        inside = (ids >= 0) & (ids < len(self.shared))
        rows = np.where(inside, ids, 0)
        same = inside
        # What the rows were not made from, the base does not hold, and an item may have any of it.
        for made_from, held in ((self._inputs.categories, block.categories), (self._inputs.numbers, block.numbers)):
            if made_from.shape[1]:
                same &= _same_bits(made_from.take(rows, axis=0), held)
        return np.where(same, ids, _OWN)


class ItemTable:
    """How a model's rows are derived from encoded items, and those that were derived already.

    It belongs to one loaded model, and its private rows to the one cache it is used with: they go when the table goes.
    """

    def __init__(self, width: int, compute: Callable[[Block], Floats], base: BaseRows | None = None) -> None:
        """``compute`` gives float32 [n, width] for a block of n items, row by row, the same for the same row every time.

        Raises:
            ValueError: a base of another width, or whose inputs are not its rows'.
        """
        if width < 1:
            raise ValueError("an item table needs a width of at least 1")
        if base is not None:
            _check_base(base, width)
        self._source = RowSource(width, compute, base)
        self._slot_rows: SlotRows | None = None

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self._source.width

    def compute(self, block: Block) -> Floats:
        """Rows of encoded items that nothing is kept of, [n, width]."""
        return self._source.compute(block)

    def slot_rows(self, owner: EncoderRows, total: int) -> SlotRows:
        """The rows by slot for one cache's encoded items; new ones, all invalid, if the table held another's."""
        held = self._slot_rows
        if held is None or held.owner is not owner:
            held = self._slot_rows = SlotRows(self._source, owner, total)
            owner.watch(held)
        return held

    def release(self) -> None:
        """Free the private rows: the model is not served any more. A request under way derives what it still needs anew."""
        self._slot_rows = None


class SlotRows:
    """One table's rows by slot of one cache. Nothing but copies and shared rows leave it, so no request ever sees a row change.

    Private rows have the address space of all slots; memory is taken as rows are used.
    """

    def __init__(self, source: RowSource, owner: EncoderRows, total: int) -> None:
        self.owner = owner
        self._source = source
        self._shared = source.shared
        self._own: Floats | None = None
        # Behind the last slot stands what the index of no slot finds: a row of zeros.
        self._places = np.full(total + 1, _INVALID, np.int64)
        self._places[total] = _OWN

    def take(self, slots: Places) -> Floats | None:
        """Copies of the slots' rows, zeros for no slot; None if a slot's row must be derived first."""
        late = self.take_late(slots)
        return late.gather() if isinstance(late, SharedRows) else late

    def take_late(self, slots: Places) -> Floats | SharedRows | None:
        """The same, but where all rows are shared ones they need not be copied yet."""
        places = self._places.take(slots)
        lowest = int(places.min(initial=0))
        if lowest == _INVALID:
            return None
        if lowest >= 0 and len(self._shared):
            return SharedRows(self._shared, places)
        if not len(self._shared):
            return self._own_of(slots)
        rows = self._shared.take(np.maximum(places, 0), axis=0)
        own = np.flatnonzero(places < 0)
        rows[own] = self._own_of(slots[own])
        return rows

    def invalid(self, slots: Places) -> Places:
        """Those of the slots whose rows must be derived, each once."""
        return np.unique(slots[self._places.take(slots) == _INVALID])

    def derive(self, slots: Places, block: Block) -> None:
        """Find or compute the rows of encoded items in ``slots`` (each at most once)."""
        places = self._source.shared_places(block)
        own: Mask = places < 0
        if own.any():
            if self._own is None:
                self._own = np.zeros((len(self._places), self._source.width), np.float32)
            self._own[slots[own]] = self._source.compute(Block(block.categories[own], block.numbers[own]))
        self._places[slots] = places

    def forget(self, slots: Places | int) -> None:
        """The slots' items are others now, or others' versions."""
        self._places[slots] = _INVALID

    def _own_of(self, slots: Places) -> Floats:
        if self._own is None:  # there is none, so all are of no slot
            return np.zeros((len(slots), self._source.width), np.float32)
        return self._own.take(slots, axis=0)


def _same_bits(one: np.ndarray, other: np.ndarray) -> Mask:
    """Rows of two arrays [n, m] of 32 bits that are equal bit by bit: 0 and -0 differ, a NaN equals itself."""
    same: Mask = (one.view(np.int32) == other.view(np.int32)).all(axis=1)
    return same


def _check_base(base: BaseRows, width: int) -> None:
    if base.rows.ndim != 2 or base.rows.shape[1] != width or base.rows.dtype != np.float32 or not len(base.rows):
        found = f"{base.rows.dtype} {list(base.rows.shape)}"
        raise ValueError(f"base rows: float32 of width {width}, and at least one, are needed, not {found}")
    if not len(base.rows) == len(base.inputs.categories) == len(base.inputs.numbers):
        raise ValueError("base rows and the inputs they were made from differ in number")
    if base.inputs.categories.dtype != np.int32 or base.inputs.numbers.dtype != np.float32:
        raise ValueError("inputs of base rows must be int32 categories and float32 numbers")
    columns = base.inputs.categories.shape[1]
    if base.key_slot < 0 or (columns and base.key_slot >= columns):
        raise ValueError(f"inputs of base rows have no column {base.key_slot} of the item key")
