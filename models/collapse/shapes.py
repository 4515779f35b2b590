"""Shapes that a graph computes, as ``expand_as`` is exported: the number of rows or of users stands in them as its axis.

They are followed only as far as a Reshape or an Expand, where the number of rows of a tensor of rows means "as many as there
are". Any other use of one is not understood.
"""

from __future__ import annotations

import numpy as np
import onnx

from models.collapse.graph_ir import Axis, NotUnderstoodError, Values
from models.collapse.tensors import Tensor

Sizes = tuple[int | Axis, ...]
_SAME_SIZES = ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape")
_OWN_LENGTH = {"Expand": 1, "Reshape": -1}


class Shapes:
    """What is known of the graph's shapes: those with an axis here, those of numbers alone are constants among ``tensors``."""

    def __init__(self, values: Values, tensors: dict[str, Tensor], row_user: set[str]) -> None:
        self._values, self._tensors, self._row_user = values, tensors, row_user
        self._sizes: dict[str, Sizes] = {}

    def read(self, node: onnx.NodeProto) -> bool:
        """Whether ``node`` gives a shape, which is then known.

        Raises:
            NotUnderstoodError: a shape of something that is not known.
        """
        if node.op_type != "Shape" and not any(name in self._sizes for name in node.input):
            return False
        sizes = self._given(node)
        if sizes is None:
            return False
        if any(isinstance(size, Axis) for size in sizes):
            self._sizes[node.output[0]] = sizes
        else:
            scalar = node.op_type == "Gather" and self._numbers(node.input[1]).ndim == 0
            array = np.array(sizes, np.int64)
            self._tensors[node.output[0]] = Tensor(self._values.constant(array[0] if scalar else array))
        return True

    def _given(self, node: onnx.NodeProto) -> Sizes | None:
        if node.op_type == "Shape":
            attributes = {each.name: each.i for each in node.attribute}
            return self._of(node.input[0])[attributes.get("start", 0) : attributes.get("end")]
        if node.op_type == "Concat":
            return tuple(size for name in node.input for size in self._known(name))
        if node.op_type == "Gather" and node.input[0] in self._sizes:
            return tuple(self._sizes[node.input[0]][index] for index in self._numbers(node.input[1]).ravel())
        return self._sizes[node.input[0]] if node.op_type in _SAME_SIZES and node.input[0] in self._sizes else None

    def _of(self, name: str) -> Sizes:
        """The shape of a tensor of users or rows."""
        if name in self._row_user:
            return (Axis.ROWS,)
        tensor = self._tensors.get(name)
        if tensor is None or tensor.value.axis is None or np.prod(tensor.value.tail[: tensor.merged], dtype=int) != 1:
            raise NotUnderstoodError(f"the shape of {name!r} is not known")
        return (tensor.value.axis, *tensor.rest)

    def _known(self, name: str) -> Sizes:
        return self._sizes[name] if name in self._sizes else tuple(int(size) for size in self._numbers(name).ravel())

    def _numbers(self, name: str) -> np.ndarray:
        if name not in self._tensors:
            raise NotUnderstoodError(f"{name!r} is no tensor of users or rows")
        return self._tensors[name].value.constant

    def target(self, node: onnx.NodeProto) -> Tensor | None:
        """The shape that a Reshape or an Expand is given, with -1 or 1 for the length of its tensor's own axis.

        None where it is given a constant, or a shape that says something else.
        """
        if node.op_type not in _OWN_LENGTH or node.input[1] not in self._sizes or node.input[0] not in self._tensors:
            return None
        first, *rest = self._sizes[node.input[1]]
        numbers = [size for size in rest if not isinstance(size, Axis)]
        if first is not self._tensors[node.input[0]].value.axis or len(numbers) < len(rest):
            return None
        return Tensor(self._values.constant(np.array([_OWN_LENGTH[node.op_type], *numbers], np.int64)))
