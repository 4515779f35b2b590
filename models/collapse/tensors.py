"""A tensor of the ONNX graph as a value: which of the tail's axes are folded into the leading one, and how shapes line up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.collapse.graph_ir import NotUnderstoodError, Value, Values
from models.collapse.rewrites_layout import reshape


@dataclass(frozen=True, slots=True)
class Tensor:
    """``value`` with its first ``merged`` tail axes folded into the leading axis: [rows * 50, 32] has the tail (50, 32).

    A vector [rows] is the tail (1,) with that axis folded.
    """

    value: Value
    merged: int = 0

    @property
    def rest(self) -> tuple[int, ...]:
        """The shape behind the leading axis."""
        return self.value.tail[self.merged :]

    @property
    def rank(self) -> int:
        """Number of the tensor's dimensions."""
        return 1 + len(self.rest)

    @property
    def is_constant(self) -> bool:
        """Whether the tensor depends on no input; its value's tail is then its whole shape."""
        return self.value.axis is None

    def tail_axis(self, axis: int) -> int:
        """The place in the tail of the tensor's axis ``axis``.

        Raises:
            NotUnderstoodError: the leading axis, or none of the tensor's.
        """
        place = axis + self.rank if axis < 0 else axis
        if not 1 <= place < self.rank:
            raise NotUnderstoodError(f"axis {axis} of a tensor of rank {self.rank}")
        return place - 1 + self.merged


def canonical(values: Values, value: Value, merged: int) -> Tensor:
    """The tensor with no folded axes where they hold nothing."""
    folded = value.tail[:merged]
    if merged and math.prod(folded) == 1 and len(value.tail) > merged:
        return Tensor(reshape(values, value, value.tail[merged:]))
    return Tensor(value, merged)


def with_rest(values: Values, tensor: Tensor, rest: Sequence[int]) -> Tensor:
    """The tensor with another shape behind its leading axis."""
    folded = tensor.value.tail[: tensor.merged]
    if not folded and not rest:
        return Tensor(reshape(values, tensor.value, (1,)), 1)
    return canonical(values, reshape(values, tensor.value, (*folded, *rest)), len(folded))


def reshaped(values: Values, tensor: Tensor, target: Sequence[int]) -> Tensor:
    """ONNX's Reshape to [-1, fixed sizes].

    Raises:
        NotUnderstoodError: another target.
    """
    head, *rest = target
    width = math.prod(rest)
    if head != -1 or any(size < 1 for size in rest) or tensor.value.width % width:
        raise NotUnderstoodError(f"reshape to {list(target)}")
    times = tensor.value.width // width
    if times == 1:
        return with_rest(values, Tensor(tensor.value), rest)
    return Tensor(reshape(values, tensor.value, (times, *rest)), 1)


def aligned(values: Values, tensors: Sequence[Tensor]) -> tuple[list[Value], int]:
    """Operands of elementwise work as values whose tails broadcast as the tensors do, and how many axes are folded.

    Raises:
        NotUnderstoodError: an operand would broadcast along the leading axis.
    """
    known = [tensor for tensor in tensors if not tensor.is_constant]
    first = known[0]
    for tensor in known:
        folded = tensor.value.tail[: tensor.merged]
        if tensor.rank != first.rank or folded != first.value.tail[: first.merged]:
            raise NotUnderstoodError("operands of several ranks")
    return [
        tensor.value if not tensor.is_constant else _behind_leading(values, tensor.value, first) for tensor in tensors
    ], first.merged


def _behind_leading(values: Values, constant: Value, beside: Tensor) -> Value:
    shape = constant.tail
    if len(shape) > beside.rank or (len(shape) == beside.rank and shape[0] != 1):
        raise NotUnderstoodError("a constant along the leading axis")
    if len(shape) < beside.rank:
        return constant
    return values.constant(constant.constant.reshape(shape[1:]))
