"""Encoded rows of the cached items for one model's encoder, one row a cache slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import ReferenceType, WeakSet, ref

import numpy as np
import numpy.typing as npt

from feature_store.encoding.encoder import Block, FeatureEncoder
from feature_store.encoding.values import RawValue, ValueRefusedError
from feature_store.item_table import ItemTable, SlotRows

ItemValues = Mapping[str, RawValue]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

_PROMISES = 1_024


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """What may be used of an item's record when it was read: its ``values``, and the names of the ``stale`` ones, left out.

    ``expires_in_s`` is the time until the next of the values expires, None if none ever does.
    """

    values: ItemValues
    stale: tuple[str, ...] = ()
    expires_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class EncodedItems:
    """``block`` [n] and, per row, whether it was made from all of the item's own features (``known`` bool [n])."""

    block: Block
    known: Mask

    def put(self, rows: Sequence[int], items: EncodedItems) -> None:
        """Overwrite the rows by those of other items, in their order."""
        self.block.categories[rows] = items.block.categories
        self.block.numbers[rows] = items.block.numbers
        self.known[rows] = items.known


def encode_items(encoder: FeatureEncoder, ids: Sequence[str], values: Sequence[ItemValues | None]) -> EncodedItems:
    """Encode items; one without values keeps its id and misses the rest, as it misses each value that its encoder refuses.

    An item with a refused value is not ``known``, though its other values are used.
    The item key field is always the id itself, whatever the stored values say: the key names the item.
    """
    view, item_key = encoder.views["item"], encoder.item_key
    known = np.fromiter((each is not None for each in values), np.bool_, len(ids))
    stored: list[ItemValues] = [each or {} for each in values]
    columns: dict[str, Sequence[RawValue]] = {name: [each.get(name) for each in stored] for name in view.names}
    try:
        return EncodedItems(view.encode({**columns, item_key: ids}, len(ids)), known)
    except ValueRefusedError:
        pass  # rare: find the rows at fault one by one, so that a bad item costs its neighbours nothing
    records = [{**each, item_key: item_id} for item_id, each in zip(ids, stored, strict=True)]
    for row, record in enumerate(records):
        refused = view.refused(record)
        if refused:
            records[row] = {name: value for name, value in record.items() if name not in refused}
            known[row] = False
    return EncodedItems(view.encode_records(records), known)


class LateBlock:
    """Encoded rows as they were when they were promised; copied when somebody asks, or just before one of them changes."""

    __slots__ = ("__weakref__", "_block", "_places", "_rows")

    def __init__(self, rows: EncoderRows, places: Places) -> None:
        self._rows = rows
        self._places = places
        self._block: Block | None = None

    def block(self) -> Block:
        """The rows."""
        if self._block is None:
            self._block = self._rows.block(self._places)
        return self._block


class EncoderRows:
    """``categories`` int32 [capacity, slots] and ``numbers`` float32 [capacity, numbers], filled lazily."""

    def __init__(self, encoder: FeatureEncoder, capacity: int) -> None:
        view = encoder.views["item"]
        self._encoder = encoder
        self._capacity = capacity
        # Behind the last slot stands what the index of no slot finds: zeros, unknown, and nothing to encode.
        self._categories = np.zeros((capacity + 1, view.slots), np.int32)
        self._numbers = np.zeros((capacity + 1, len(view.numbers)), np.float32)
        self._known = np.zeros(capacity + 1, np.bool_)
        self._encoded = np.zeros(capacity + 1, np.bool_)
        self._encoded[capacity] = True
        self._promised: list[ReferenceType[LateBlock]] = []
        self._watching: WeakSet[SlotRows] = WeakSet()

    def unencoded(self, places: Places) -> Places:
        """Those of the slots ``places`` that hold no row for this encoder yet, each once."""
        encoded = self._encoded[places]
        return places[:0] if encoded.all() else np.unique(places[~encoded])

    def encoded(self, places: Places) -> Mask:
        """Which of the slots ``places`` hold a row for this encoder."""
        return self._encoded[places]

    def encode(self, places: Places, ids: Sequence[str], values: Sequence[ItemValues | None]) -> None:
        """Encode the items into the slots ``places`` (each at most once)."""
        self.put(places, encode_items(self._encoder, ids, values))

    def put(self, places: Places, items: EncodedItems) -> None:
        """Keep encoded rows in the slots ``places`` (each at most once)."""
        self._keep_promises()
        for rows in self._watching:
            rows.forget(places)
        self._categories[places] = items.block.categories
        self._numbers[places] = items.block.numbers
        self._known[places] = items.known
        self._encoded[places] = True

    def forget(self, place: int) -> None:
        """The slot holds another item now, or another version of it."""
        self._encoded[place] = False
        for rows in self._watching:
            rows.forget(place)

    def known(self, places: Places) -> Mask:
        """Which rows were made from all of their items' own features."""
        return self._known[places]

    def block(self, places: Places) -> Block:
        """Copies of the rows in ``places``, in their order."""
        return Block(self._categories.take(places, axis=0), self._numbers.take(places, axis=0))

    def take(self, places: Places) -> EncodedItems:
        """Copies of the rows in ``places``, and whether they are known."""
        return EncodedItems(self.block(places), self._known[places])

    def promise(self, places: Places) -> LateBlock:
        """The rows in ``places`` as they are now, without a copy unless one is needed. All must be encoded."""
        if len(self._promised) >= _PROMISES:
            self._keep_promises()
        late = LateBlock(self, places)
        self._promised.append(ref(late))
        return late

    def slot_rows(self, table: ItemTable) -> SlotRows:
        """The table's rows for these items."""
        return table.slot_rows(self, self._capacity)

    def watch(self, rows: SlotRows) -> None:
        """Tell derived rows, while they live, whenever a row changes."""
        self._watching.add(rows)

    def derive(self, places: Places) -> None:
        """Derive the rows of all tables anew for encoded items that changed (each at most once)."""
        for rows in list(self._watching):
            rows.derive(places, self.block(places))

    def _keep_promises(self) -> None:
        """Copy what was promised and is still wanted."""
        for promised in self._promised:
            late = promised()
            if late is not None:
                late.block()
        self._promised.clear()
