"""The raw values in the slots of the item cache, and their encoded rows for every model's encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from feature_store.encoding.encoder import Block, FeatureEncoder, Floats
from feature_store.item_rows import EncodedItems, EncoderRows, ItemValues, Mask, Places, encode_items
from feature_store.item_slots import ABSENT, ItemSlots
from feature_store.item_table import ItemTable, SharedRows


class ItemEncodings:
    """Encodes what the slots hold, each item once for each encoder, when it is first asked for."""

    def __init__(self, slots: ItemSlots) -> None:
        self._slots = slots
        self._values: list[ItemValues | None] = [None] * slots.total
        self._rows_of: dict[str, EncoderRows] = {}

    @property
    def fingerprints(self) -> frozenset[str]:
        """Encoders that rows are held for."""
        return frozenset(self._rows_of)

    def retain(self, fingerprints: Iterable[str]) -> None:
        """Drop the rows of every encoder but these."""
        wanted = set(fingerprints)
        self._rows_of = {fingerprint: rows for fingerprint, rows in self._rows_of.items() if fingerprint in wanted}

    def rows(self, encoder: FeatureEncoder) -> EncoderRows:
        """The encoder's rows, none of them encoded if it is new."""
        rows = self._rows_of.get(encoder.fingerprint)
        if rows is None:
            rows = self._rows_of[encoder.fingerprint] = EncoderRows(encoder, self._slots.total)
        return rows

    def put(self, slot: int, values: ItemValues | None) -> None:
        """The slot holds these values now."""
        self._values[slot] = values
        for rows in self._rows_of.values():
            rows.forget(slot)

    def held(self, slots: Places) -> list[tuple[EncoderRows, Mask]]:
        """For each encoder which of the slots are encoded."""
        return [(rows, rows.encoded(slots)) for rows in self._rows_of.values()]

    def encode(self, rows: EncoderRows, slots: Places) -> None:
        """Encode those of the slots that are not; ``ABSENT`` ones are passed over."""
        places = rows.unencoded(slots)
        if places.size:
            numbers = places.tolist()
            rows.encode(places, [self._slots.id_of(slot) for slot in numbers], [self._values[slot] for slot in numbers])

    def late_part(self, rows: EncoderRows, table: ItemTable | None, slots: Places) -> Floats | SharedRows | None:
        """As ``part``, but shared rows need not be copied yet."""
        late = None if table is None else rows.slot_rows(table).take_late(slots)
        return self.part(rows, table, slots) if late is None else late

    def part(self, rows: EncoderRows, table: ItemTable | None, slots: Places) -> Floats | None:
        """Encode what the slots hold; with a table copy its rows of them, derived where needed, zeros for ``ABSENT``."""
        if table is None:
            self.encode(rows, slots)
            return None
        derived = rows.slot_rows(table)
        part = derived.take(slots)
        if part is None:
            self.encode(rows, slots)
            places = derived.invalid(slots)
            derived.derive(places, rows.block(places))
            part = derived.take(slots)
        return part

    def complete(
        self, encoder: FeatureEncoder, table: ItemTable | None, ids: Sequence[str], values: Sequence[ItemValues | None]
    ) -> tuple[EncodedItems, Floats | None]:
        """Rows of the items, encoded once for all requests that wait for the same read, and their rows in the table.

        A value that is not the one held (pushed out, or replaced meanwhile) is encoded for this request alone.
        """
        rows = self._rows_of.get(encoder.fingerprint)
        if rows is None:  # dropped by ``retain`` since the lookup began
            items = encode_items(encoder, ids, values)
            return items, None if table is None else table.compute(items.block)
        slots = self._slots_of(ids, values)
        part = self.part(rows, table, slots)
        items = rows.take(slots)
        others = np.flatnonzero(slots == ABSENT)
        if others.size:
            places = others.tolist()
            items.put(places, encode_items(encoder, [ids[row] for row in places], [values[row] for row in places]))
            if table is not None and part is not None:
                part[others] = table.compute(Block(items.block.categories[others], items.block.numbers[others]))
        return items, part

    def _slots_of(self, ids: Sequence[str], values: Sequence[ItemValues | None]) -> Places:
        """The slots of those items that hold these very values, else ``ABSENT``."""
        slots = self._slots.find(ids)
        pairs = zip(slots.tolist(), values, strict=True)
        same = np.array([slot != ABSENT and self._values[slot] is each for slot, each in pairs], np.bool_)
        return np.where(same, slots, ABSENT)
