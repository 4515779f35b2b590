"""What one run of a graph costs, counted node by node from the shapes.

The rule: a product counts 2 * M * K * N operations, elementwise work one a number that it writes (four for a sigmoid or a
softmax), a sum one a number that it reads. Every node reads its inputs and writes its outputs once (a Gather or a Slice reads
only what it takes); layouts (Reshape, Squeeze) are free. The graph is counted for one user at two numbers of rows: what grows
with the rows is per row, and the rest, which includes every weight read once a run, is per user.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx
from onnx import helper

from models.manifest import ITEM_PART, Cost

_ROWS = 64
_FREE = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape")
_MOVES = ("Gather", "Concat", "Slice", "Expand", "Transpose", "Cast", "Split", "Constant", "GatherND", "Tile")
_OPERATIONS_PER_NUMBER = {"Softmax": 4.0, "Sigmoid": 4.0, "Tanh": 4.0, "Exp": 4.0, "BatchNormalization": 2.0}


@dataclass(frozen=True, slots=True)
class _Shape:
    sizes: tuple[int, ...]
    item_bytes: int

    @property
    def numbers(self) -> int:
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        return self.numbers * self.item_bytes


def cost_of(model: onnx.ModelProto) -> Cost:
    """The cost of a request-shaped graph, or of a form of it."""
    few, many = _run_cost(model, _ROWS), _run_cost(model, 2 * _ROWS)
    flops, moved = ((after - before) / _ROWS for before, after in zip(few, many, strict=True))
    return Cost(
        flops_per_row=flops,
        bytes_per_row=moved,
        flops_per_user=max(few[0] - _ROWS * flops, 0.0),
        bytes_per_user=max(few[1] - _ROWS * moved, 0.0),
    )


def with_row_read(cost: Cost, width: int) -> Cost:
    """``cost`` and the reading and writing of a row of the item part of this width, which happens outside of the graph."""
    return cost.model_copy(update={"bytes_per_row": cost.bytes_per_row + 2 * 4 * width})


def _run_cost(model: onnx.ModelProto, rows: int) -> tuple[float, float]:
    shapes = _shapes(model, rows)
    flops = moved = 0.0
    for node in model.graph.node:
        inputs = [shapes[name] for name in node.input if name in shapes]
        outputs = [shapes[name] for name in node.output if name in shapes]
        flops += _flops(node, inputs, outputs)
        moved += _bytes(node, inputs, outputs)
    return flops, moved


def _shapes(model: onnx.ModelProto, rows: int) -> dict[str, _Shape]:
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]
    for tensor in sized.graph.input:
        lead = tensor.type.tensor_type.shape.dim[0]
        of_rows = tensor.name == ITEM_PART or tensor.name.startswith(("item_", "candidate_", "row_user"))
        lead.dim_value = rows if of_rows else 1
    for tensor in sized.graph.output:
        tensor.type.tensor_type.shape.dim[0].dim_value = rows
    inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    shapes = {info.name: _shape_of(info) for info in (*inferred.input, *inferred.value_info, *inferred.output)}
    for weight in model.graph.initializer:
        item_bytes = helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize
        shapes[weight.name] = _Shape(tuple(weight.dims), item_bytes)
    return shapes


def _shape_of(info: onnx.ValueInfoProto) -> _Shape:
    kind = info.type.tensor_type
    sizes = tuple(max(dim.dim_value, 1) for dim in kind.shape.dim)
    return _Shape(sizes, helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize if kind.elem_type else 4)


def _flops(node: onnx.NodeProto, inputs: list[_Shape], outputs: list[_Shape]) -> float:
    if node.op_type in _FREE or node.op_type in _MOVES or not outputs or not inputs:
        return 0.0
    written = sum(shape.numbers for shape in outputs)
    if node.op_type in ("MatMul", "Gemm"):
        transposed = any(each.name == "transA" and each.i for each in node.attribute)
        sizes = inputs[0].sizes or (1,)  # not known to the inference of shapes
        return 2.0 * written * sizes[0 if transposed else -1] + (written if len(inputs) > 2 else 0)
    if node.op_type.startswith("Reduce"):
        return float(inputs[0].numbers)
    return _OPERATIONS_PER_NUMBER.get(node.op_type, 1.0) * written


def _bytes(node: onnx.NodeProto, inputs: list[_Shape], outputs: list[_Shape]) -> float:
    if node.op_type in _FREE:
        return 0.0
    written = sum(shape.bytes for shape in outputs)
    if node.op_type in ("Gather", "Slice"):
        return float(2 * written + (inputs[1].bytes if len(inputs) > 1 else 0))
    return float(written + sum(shape.bytes for shape in inputs))
