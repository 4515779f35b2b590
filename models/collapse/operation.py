"""One node of the ONNX graph with its operands as tensors: what a rule for an operator is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.collapse.graph_ir import NotUnderstoodError, Value, Values
from models.collapse.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Operation:
    """One node: its operands (None for one left out), whether nothing else reads each, and its attributes.

    ``unread`` says of each operand that no node before this one has computed with it. ``replaced`` is filled by a rule: pairs
    of a value and what all later nodes shall read instead, which is the same number made another way.
    """

    values: Values
    op: str
    operands: list[Tensor | None]
    own: list[bool]
    attributes: Mapping[str, Any]
    outputs: int = 1
    unread: list[bool] = field(default_factory=list)
    replaced: list[tuple[Value, Value]] = field(default_factory=list)

    def tensor(self, place: int) -> Tensor:
        """An operand.

        Raises:
            NotUnderstoodError: it was left out.
        """
        tensor = self.operands[place] if place < len(self.operands) else None
        if tensor is None:
            raise NotUnderstoodError(f"{self.op} without operand {place}")
        return tensor

    def array(self, place: int) -> np.ndarray:
        """A constant operand.

        Raises:
            NotUnderstoodError: it was left out, or depends on an input.
        """
        return self.tensor(place).value.constant

    def numbers(self, place: int, name: str) -> list[int]:
        """Whole numbers given as an operand (since some opset) or as an attribute (before)."""
        if place < len(self.operands):
            return [int(number) for number in self.array(place).ravel()]
        if name not in self.attributes:
            raise NotUnderstoodError(f"{self.op} without {name}")
        return [int(number) for number in self.attributes[name]]


Rule = Callable[[Operation], list[Tensor]]
