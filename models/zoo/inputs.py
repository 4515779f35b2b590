"""What a network is given: sizes of the input blocks (``NetworkInputs``), and the tensors of one batch.

Tensors of a batch, by name (blocks of width 0 are left out; networks index by name, never by place):

======================= ================== =====================================
name                    dtype              shape
======================= ================== =====================================
``user_categories``     int32              [users, slots]
``user_numbers``        float32            [users, numbers]
``context_categories``  int32              [users, slots]
``context_numbers``     float32            [users, numbers]
``history``             int32              [users, history_length], oldest first
``item_categories``     int32              [rows, slots]
``item_numbers``        float32            [rows, numbers]
``candidate_categories`` int32             [rows, slots]
``candidate_numbers``   float32            [rows, numbers]
``row_user``            int32              [rows], the user of each row
======================= ================== =====================================

Category id 0 is "missing" everywhere and must embed to the zero vector; in ``history`` it is padding, always at the end.
A forward pass returns ``{label: logit [rows]}`` and, where the network has it, ``"attention": [rows, history_length]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Batch = Mapping[str, Tensor]
Outputs = dict[str, Tensor]

USERS_VIEWS = ("user", "context")
ROWS_VIEWS = ("item", "candidate")


@dataclass(frozen=True, slots=True)
class CategoryInput:
    """One category field: ``slots`` neighbouring columns of its block, ids below ``cardinality``."""

    name: str
    slots: int
    cardinality: int


@dataclass(frozen=True, slots=True)
class BlockInputs:
    """The fields of one view, in the order of the block's columns."""

    categories: tuple[CategoryInput, ...] = ()
    numbers: tuple[str, ...] = ()

    def first_column(self, name: str) -> int:
        """The first of a category field's columns."""
        before = [field.name for field in self.categories].index(name)
        return sum(field.slots for field in self.categories[:before])


@dataclass(frozen=True, slots=True)
class NetworkInputs:
    """All views, and which item field (``item_key``) the history shares its ids and embedding with."""

    user: BlockInputs
    context: BlockInputs
    item: BlockInputs
    candidate: BlockInputs
    item_key: str
    history_length: int

    def block(self, view: str) -> BlockInputs:
        """The block of a view by its name."""
        blocks = {"user": self.user, "context": self.context, "item": self.item, "candidate": self.candidate}
        return blocks[view]

    @property
    def item_cardinality(self) -> int:
        """Number of item ids, the reserved ones included."""
        return next(field.cardinality for field in self.item.categories if field.name == self.item_key)

    @property
    def views(self) -> dict[str, BlockInputs]:
        """All views by name, those of the users axis first."""
        return {view: self.block(view) for view in (*USERS_VIEWS, *ROWS_VIEWS)}


@dataclass(frozen=True, slots=True)
class InputTensor:
    """One tensor of a batch: its axis, and its width (None for a vector)."""

    name: str
    dtype: Literal["int32", "float32"]
    axis: Literal["users", "rows"]
    width: int | None


def input_tensors(inputs: NetworkInputs, *, uses_history: bool) -> tuple[InputTensor, ...]:
    """The tensors that a network over these inputs reads; ``row_user`` only when there is anything on the users axis."""
    tensors = []
    for view, block in inputs.views.items():
        axis: Literal["users", "rows"] = "users" if view in USERS_VIEWS else "rows"
        slots = sum(field.slots for field in block.categories)
        if slots:
            tensors.append(InputTensor(f"{view}_categories", "int32", axis, slots))
        if block.numbers:
            tensors.append(InputTensor(f"{view}_numbers", "float32", axis, len(block.numbers)))
    if uses_history:
        tensors.append(InputTensor("history", "int32", "users", inputs.history_length))
    if any(tensor.axis == "users" for tensor in tensors):
        tensors.append(InputTensor("row_user", "int32", "rows", None))
    return tuple(tensors)
