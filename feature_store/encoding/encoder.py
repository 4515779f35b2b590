"""The fitted encoder of a model: four views and the history, saved beside the weights as ``encoder.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from feature_store.encoding.categories import OOV_ID, CategoryColumn, IdOf, Ids
from feature_store.encoding.numbers import NumberColumn
from feature_store.encoding.values import RawValue, ValueRefusedError, category_text

VIEWS = ("user", "context", "item", "candidate")
USERS_AXIS_VIEWS = ("user", "context")
ROWS_AXIS_VIEWS = ("item", "candidate")
HISTORY_INPUT = "history"
ROW_USER_INPUT = "row_user"

Floats = npt.NDArray[np.float32]

_DEFAULT_ROWS = 4_096
_TEXT = frozenset({str})


class Block(msgspec.Struct, frozen=True, gc=False):
    """The encoded rows of one view: ``categories`` int32 [n, slots], ``numbers`` float32 [n, number fields]."""

    categories: Ids
    numbers: Floats


@dataclass(frozen=True)
class ViewEncoder:
    """The fitted fields of one view, in order; a category field may take several neighbouring slots."""

    categories: tuple[CategoryColumn, ...]
    numbers: tuple[NumberColumn, ...]

    @property
    def slots(self) -> int:
        """Width of ``Block.categories``."""
        return sum(column.slots for column in self.categories)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the fields."""
        return frozenset(column.name for column in self.categories) | frozenset(column.name for column in self.numbers)

    def encode(self, columns: Mapping[str, Sequence[RawValue]], count: int) -> Block:
        """Columns of raw values (field name -> ``count`` values; an absent field is missing everywhere) to a block.

        Raises:
            ValueRefusedError: a value that its field does not accept.
        """
        missing: Sequence[RawValue] = [None] * count
        categories = np.zeros((count, self.slots), dtype=np.int32)
        start = 0
        for column in self.categories:
            if column.name in columns:
                categories[:, start : start + column.slots] = column.encode(columns[column.name])
            start += column.slots
        numbers = np.empty((count, len(self.numbers)), dtype=np.float32)
        for place, number in enumerate(self.numbers):
            numbers[:, place] = number.encode(columns.get(number.name, missing))
        return Block(categories, numbers)

    def encode_records(self, records: Sequence[Mapping[str, RawValue]]) -> Block:
        """Records of raw values (one mapping a row; absent names are missing) to a block."""
        names = self.names
        return self.encode({name: [record.get(name) for record in records] for name in names}, len(records))

    def encode_one(self, record: Mapping[str, RawValue]) -> Block:
        """One record to a block of one row: what ``encode_records([record])`` gives, without its arrays of one value.

        Raises:
            ValueRefusedError: a value that its field does not accept.
        """
        value_of = record.get
        ids: list[int] = []
        try:
            for name, id_of, column in self._by_name:
                value = value_of(name)
                if id_of is not None and (value is None or type(value) is str):
                    ids.append(id_of(value, OOV_ID))
                else:
                    ids.extend(column.encode_one(value))
            numbers = [column.encode_one(value_of(column.name)) for column in self.numbers]
        except ValueRefusedError:
            return self.encode_records([record])  # which says the field and the place
        return Block(np.array([ids], np.int32), np.array([numbers], np.float32))

    @cached_property
    def _by_name(self) -> list[tuple[str, IdOf | None, CategoryColumn]]:
        """The category fields with their names, and the vocabulary of each that is one slot of known terms."""
        return [(column.name, column.id_of_text, column) for column in self.categories]

    def defaults(self, count: int) -> Block:
        """``count`` rows of a record without values: read-only, and shared with other callers."""
        rows = self._default_rows
        if count > _DEFAULT_ROWS:
            return self.encode({}, count)
        return Block(rows.categories[:count], rows.numbers[:count])

    @cached_property
    def _default_rows(self) -> Block:
        block = self.encode({}, _DEFAULT_ROWS)
        block.categories.setflags(write=False)
        block.numbers.setflags(write=False)
        return block

    def refused(self, record: Mapping[str, RawValue]) -> tuple[str, ...]:
        """The fields, sorted, whose values in the record ``encode_records`` does not accept."""
        columns: tuple[CategoryColumn | NumberColumn, ...] = (*self.categories, *self.numbers)
        return tuple(sorted(column.name for column in columns if _refuses(column, record.get(column.name))))

    def replace(self, block: Block, columns: Mapping[str, Sequence[RawValue]]) -> Block:
        """A copy of ``block`` in which the fields named in ``columns`` are encoded anew; other names are ignored.

        Raises:
            ValueRefusedError: a value that its field does not accept.
        """
        categories, numbers = block.categories.copy(), block.numbers.copy()
        start = 0
        for column in self.categories:
            if column.name in columns:
                categories[:, start : start + column.slots] = column.encode(columns[column.name])
            start += column.slots
        for place, number in enumerate(self.numbers):
            if number.name in columns:
                numbers[:, place] = number.encode(columns[number.name])
        return Block(categories, numbers)

    def to_json(self) -> dict[str, Any]:
        """The fitted state."""
        return {
            "categories": [column.to_json() for column in self.categories],
            "numbers": [column.to_json() for column in self.numbers],
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> ViewEncoder:
        """Rebuild from ``to_json``."""
        return cls(
            tuple(CategoryColumn.from_json(each) for each in state["categories"]),
            tuple(NumberColumn.from_json(each) for each in state["numbers"]),
        )


def _refuses(column: CategoryColumn | NumberColumn, value: RawValue) -> bool:
    try:
        column.encode([value])
    except ValueRefusedError:
        return True
    return False


@dataclass(frozen=True)
class FeatureEncoder:
    """All that turns raw values into one model's inputs; equal fingerprints encode equally."""

    views: Mapping[str, ViewEncoder]
    item_key: str
    history_length: int

    @cached_property
    def item_key_column(self) -> CategoryColumn:
        """The field that encodes item ids, for candidates and history alike."""
        for column in self.views["item"].categories:
            if column.name == self.item_key:
                return column
        raise KeyError(self.item_key)

    @property
    def item_key_slot(self) -> int:
        """The column of the item block's ``categories`` that holds the item's id."""
        columns = self.views["item"].categories
        place = columns.index(self.item_key_column)
        return sum(column.slots for column in columns[:place])

    def encode_history(self, histories: Sequence[Sequence[str | int]]) -> Ids:
        """Item ids, oldest first, to int32 [n, history_length]: the newest are kept, oldest first, padded behind by 0.

        An item outside the vocabulary keeps its place as OOV: the event happened.
        """
        out = np.zeros((len(histories), self.history_length), dtype=np.int32)
        ids_of = self.item_key_column.ids.present_ids_of
        for row, items in enumerate(histories):
            newest = items[-self.history_length :]
            texts = newest if _TEXT.issuperset(map(type, newest)) else [category_text(item) for item in newest]
            out[row, : len(texts)] = [*ids_of(texts)]  # type: ignore[arg-type]
        return out

    def to_json(self) -> dict[str, Any]:
        """The fitted state, as stored in ``encoder.json``."""
        return {
            "schema": 1,
            "views": {name: self.views[name].to_json() for name in VIEWS},
            "item_key": self.item_key,
            "history_length": self.history_length,
        }

    def dumps(self) -> str:
        """``to_json`` as canonical text: the same encoder always gives the same bytes."""
        return json.dumps(self.to_json(), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ``dumps``, 64 hex digits."""
        return hashlib.sha256(self.dumps().encode()).hexdigest()

    @classmethod
    def loads(cls, text: str | bytes) -> FeatureEncoder:
        """Rebuild from ``dumps``.

        Raises:
            ValueError: not an encoder of a known schema.
        """
        state = json.loads(text)
        if not isinstance(state, dict) or state.get("schema") != 1:
            raise ValueError("not an encoder of schema 1")
        try:
            views = {name: ViewEncoder.from_json(state["views"][name]) for name in VIEWS}
            return cls(views, state["item_key"], state["history_length"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"broken encoder: {error!r}") from None
