"""Encoded rows of the cached items for one model's encoder, one row a cache slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.encoding.encoder import Block, FeatureEncoder
from feature_store.encoding.values import RawValue, ValueRefusedError

ItemValues = Mapping[str, RawValue]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


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


class EncoderRows:
    """``categories`` int32 [capacity, slots] and ``numbers`` float32 [capacity, numbers], filled lazily."""

    def __init__(self, encoder: FeatureEncoder, capacity: int) -> None:
        view = encoder.views["item"]
        self._encoder = encoder
        self._categories = np.zeros((capacity, view.slots), np.int32)
        self._numbers = np.zeros((capacity, len(view.numbers)), np.float32)
        self._known = np.zeros(capacity, np.bool_)
        self._encoded = np.zeros(capacity, np.bool_)

    def unencoded(self, places: Places) -> Places:
        """Those of the slots ``places`` that hold no row for this encoder yet, each once."""
        return np.unique(places[~self._encoded[places]])

    def encoded(self, places: Places) -> Mask:
        """Which of the slots ``places`` hold a row for this encoder."""
        return self._encoded[places]

    def encode(self, places: Places, ids: Sequence[str], values: Sequence[ItemValues | None]) -> None:
        """Encode the items into the slots ``places`` (each at most once)."""
        self.put(places, encode_items(self._encoder, ids, values))

    def put(self, places: Places, items: EncodedItems) -> None:
        """Keep encoded rows in the slots ``places`` (each at most once)."""
        self._categories[places] = items.block.categories
        self._numbers[places] = items.block.numbers
        self._known[places] = items.known
        self._encoded[places] = True

    def forget(self, place: int) -> None:
        """The slot holds another item now, or another version of it."""
        self._encoded[place] = False

    def take(self, places: Places) -> EncodedItems:
        """Copies of the rows in ``places``, in their order."""
        return EncodedItems(Block(self._categories[places], self._numbers[places]), self._known[places])
