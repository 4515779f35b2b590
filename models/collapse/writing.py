"""Values written as the nodes of an ONNX graph.

A value is written once, in the layout that its operator gives: with its tail as it is, flat ([-1, last axis], what a plain
product gives) or wide ([-1, all of the tail]). Another layout is a Reshape, which copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from models.collapse.graph_ir import Value


@dataclass(frozen=True, slots=True)
class Written:
    """A tensor's name, and its shape behind the leading axis."""

    name: str
    rest: tuple[int, ...]


class GraphText:
    """Nodes, weights and inputs of one graph as they are written."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[Hashable, onnx.TensorProto] = {}
        self._reshaped: dict[tuple[str, tuple[int, ...]], str] = {}
        self._count = 0
        self._kept: list[np.ndarray] = []

    def fresh(self, stem: str) -> str:
        """A name that no other tensor of the graph has."""
        self._count += 1
        return f"{stem.lower()}_{self._count}"

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """One node of one output; returns the output's name."""
        name = self.fresh(op)
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def weight(self, data: np.ndarray) -> str:
        """A constant; equal ones are one."""
        data = np.asarray(data, order="C")
        content: Hashable = data.tobytes() if data.nbytes <= 1 << 20 else id(data)
        self._kept.append(data)
        key = (data.shape, data.dtype.str, content)
        if key not in self.weights:
            self.weights[key] = numpy_helper.from_array(data, self.fresh("weight"))
        return self.weights[key].name

    def shape(self, sizes: Sequence[int]) -> str:
        """A constant of whole numbers."""
        return self.weight(np.array(sizes, np.int64))

    def viewed(self, written: Written, rest: tuple[int, ...]) -> str:
        """The tensor with another shape behind its leading axis."""
        if written.rest == rest:
            return written.name
        key = (written.name, rest)
        if key not in self._reshaped:
            self._reshaped[key] = self.node("Reshape", [written.name, self.shape([-1, *rest])])
        return self._reshaped[key]

    def model(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], like: onnx.ModelProto
    ) -> onnx.ModelProto:
        """The graph with the operator sets of ``like``.

        Raises:
            onnx.checker.ValidationError: the graph is not valid.
        """
        graph = helper.make_graph(self.nodes, "collapsed", inputs, outputs, list(self.weights.values()))
        model = helper.make_model(graph, opset_imports=list(like.opset_import), ir_version=like.ir_version)
        onnx.checker.check_model(model, full_check=True)
        return model


def flat(value: Value) -> tuple[int, ...]:
    """The rest of the flat layout: all but the last axis folded into the leading one."""
    return value.tail[-1:]


def wide(value: Value) -> tuple[int, ...]:
    """The rest of the wide layout: one vector per row."""
    return (math.prod(value.tail),)


Writer = Callable[[Value], Written]
