"""The columns of the item part: where in an item's row of the table each value that depends on the item alone is found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.collapse.dependence import Kind, kind_of
from models.collapse.graph_ir import EXPAND, RESHAPE, Axis, Value


@dataclass(slots=True)
class ItemColumns:
    """Columns given to values in the order in which the forms ask for them.

    The cut between item and pair lies where a form first reads a value of the item alone: after the item's half of a linear
    layer, after sums. ``recomputed`` values lie on the form's side of the cut instead: their own inputs are asked for.
    """

    recomputed: set[int] = field(default_factory=set)
    places: dict[int, tuple[Value, int]] = field(default_factory=dict)
    width: int = 0

    def takes(self, value: Value) -> bool:
        """Whether ``value`` is read from the table: of the item alone, and exact in float32."""
        if kind_of(value) is not Kind.ITEM or value.axis is not Axis.ROWS or id(value) in self.recomputed:
            return False
        return value.op not in (RESHAPE, EXPAND) and value.dtype in (np.dtype(np.float32), np.dtype(bool))

    def place_of(self, value: Value) -> int:
        """The first column of ``value``, which takes ``value.width`` columns."""
        if id(value) not in self.places:
            self.places[id(value)] = (value, self.width)
            self.width += value.width
        return self.places[id(value)][1]

    def values(self) -> list[Value]:
        """The values in the order of their columns."""
        return [value for value, _ in self.places.values()]

    def without_widest(self) -> ItemColumns:
        """Columns to try next when these are too many: the widest value is computed from what it is made of."""
        widest = max(self.values(), key=lambda value: value.width)
        return ItemColumns(self.recomputed | {id(widest)})
