"""How each kind of value is written: layouts chosen so that products are plain and large, and activations follow them at
once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from models.collapse.addends import GEMM, PAIR_GEMM, added_in_order, added_up
from models.collapse.dependence import is_live
from models.collapse.graph_ir import (
    CONCAT,
    ELEMENTWISE,
    EMBED,
    EXPAND,
    LINEAR,
    MATMUL,
    OPAQUE,
    REDUCE_SUM,
    RESHAPE,
    ROW_WISE,
    SLICE,
    SUM,
    TAKE,
    Value,
)
from models.collapse.rewrites_elementwise import last_axis_only
from models.collapse.writing import Written, flat, wide

if TYPE_CHECKING:
    from models.collapse.forms import FormWriter

_WIDEST_CONSTANT = 16_384
"""Numbers: what the cache nearest to a core holds beside what streams through it."""


def _reshape(form: FormWriter, value: Value) -> Written:
    return form.written(value.inputs[0])


def _expand(form: FormWriter, value: Value) -> Written:
    name = form.view(value.inputs[0], value.inputs[0].tail)
    return Written(form.text.node("Expand", [name, form.text.shape([1, *value.tail])]), value.tail)


def _elementwise(form: FormWriter, value: Value) -> Written:
    rest = _shared_layout(form, value)
    names = [_operand(form, each, value, rest) for each in value.inputs]
    attributes: dict[str, Any] = dict(value.attributes)
    return Written(form.text.node(str(attributes.pop("op")), names, **attributes), rest)


def _shared_layout(form: FormWriter, value: Value) -> tuple[int, ...]:
    """A layout in which all operands meet number for number: that of the first one, where it can be."""
    varying = [each for each in value.inputs if each.data is None]
    constants = [each.constant for each in value.inputs if each.data is not None]
    if any(each.tail != value.tail for each in varying) or not all(last_axis_only(each) for each in constants):
        return value.tail
    full = [each for each in varying if not form.of_one(each)]
    rest = form.written((full or varying)[0]).rest
    if any(each.size > 1 for each in constants):
        rest = _layout_beside_constants(value, rest)
    whole_rows = math.prod(rest) == value.width
    return rest if whole_rows or len(full) in (0, len(varying)) else value.tail


def _layout_beside_constants(value: Value, rest: tuple[int, ...]) -> tuple[int, ...]:
    """ONNX Runtime broadcasts a vector with one call a vector: few long ones take two thirds of the time of many short."""
    if value.tail[-1] < value.width <= _WIDEST_CONSTANT:
        return wide(value)
    return rest if rest[-1:] == flat(value) else flat(value)


def _operand(form: FormWriter, each: Value, value: Value, rest: tuple[int, ...]) -> str:
    if each.data is None:
        return form.view(each, each.tail if rest == value.tail else rest)
    if rest == value.tail:
        return form.text.weight(each.data)
    if each.data.size == 1:
        return form.text.weight(each.data.reshape(()))
    return form.text.weight(np.tile(each.data.reshape(-1), rest[-1] // each.data.size))


def _concat(form: FormWriter, value: Value) -> Written:
    names = [form.rows(part, part.tail) for part in value.inputs]
    return Written(form.text.node("Concat", names, axis=value.number("axis") + 1), value.tail)


def _slice(form: FormWriter, value: Value) -> Written:
    sizes = [[value.number("start")], [value.number("stop")], [value.number("axis") + 1]]
    inner = value.inputs[0]
    name = form.text.node("Slice", [form.view(inner, inner.tail), *(form.text.shape(each) for each in sizes)])
    return Written(name, value.tail)


def _take(form: FormWriter, value: Value) -> Written:
    indices: Any = value.attribute("indices")
    inner = value.inputs[0]
    name = form.text.node("Gather", [form.view(inner, inner.tail), form.text.shape(indices)], axis=value.number("axis") + 1)
    return Written(name, value.tail)


def _embed(form: FormWriter, value: Value) -> Written:
    table, ids = value.inputs
    name = form.text.node("Gather", [form.text.weight(table.constant), form.view(ids, ids.tail)], axis=0)
    return Written(name, value.tail)


def _reduce_sum(form: FormWriter, value: Value) -> Written:
    inner = value.inputs[0]
    axes = form.text.shape([value.number("axis") + 1])
    return Written(form.text.node("ReduceSum", [form.view(inner, inner.tail), axes], keepdims=1), value.tail)


def _row_wise(form: FormWriter, value: Value) -> Written:
    inner = value.inputs[0]
    attributes: dict[str, Any] = dict(value.attributes)
    op, name = str(attributes.pop("op")), form.view(inner, inner.tail)
    if "axes" in attributes:
        axes = form.text.shape([axis + 1 for axis in attributes["axes"]])
        return Written(form.text.node(op, [name, axes], keepdims=1), value.tail)
    return Written(form.text.node(op, [name], axis=attributes["axis"] + 1), value.tail)


def _linear(form: FormWriter, value: Value) -> Written:
    if is_live(value):
        return form.written(added_up(form.read.values, value, one_user=form.one_user))
    return _gemm(form, value)


def _sum(form: FormWriter, value: Value) -> Written:
    values = form.read.values
    if is_live(value):
        return form.written(added_up(values, value, one_user=form.one_user))
    return form.written(added_in_order(values, value))


def _gemm(form: FormWriter, value: Value) -> Written:
    x, weight, *addends = value.inputs
    if value.tail[-1] == 1 < math.prod(value.tail) and not any(each.data is None for each in addends):
        return _dots(form, value)
    names = [form.view(x, flat(x)), form.text.weight(weight.constant)]
    for addend in addends:
        is_constant = addend.data is not None
        names.append(form.text.weight(addend.constant.reshape(-1)) if is_constant else form.view(addend, flat(addend)))
    return Written(form.text.node("Gemm", names), flat(value))


def _dots(form: FormWriter, value: Value) -> Written:
    """Many vectors of a row with one vector, as a product with one row: a third of the time of one with one column."""
    x, weight, *addends = value.inputs
    text = form.text
    constants = [text.weight(each.constant.reshape(-1)) for each in addends]
    products = text.node("Gemm", [text.weight(weight.constant.T), form.view(x, flat(x)), *constants], transB=1)
    return Written(text.node("Reshape", [products, text.shape([-1, *value.tail])]), value.tail)


def _pair_gemm(form: FormWriter, value: Value) -> Written:
    """``U`` [d, T * H] made from the user's vectors, then one plain product over the rows."""
    a, b, weight, of_row, *addends = value.inputs
    text = form.text
    size, width = weight.tail
    times = b.width // size
    rows = form.view(a, a.tail[-1:])
    users = [
        form.view(addend, wide(value)) if addend.data is None else text.weight(addend.data.reshape(1, -1)) for addend in addends
    ]
    if width == 1:
        matrix = _scaled(form, form.view(b, (size,)), weight.constant, of_row.constant)
        return Written(text.node("Gemm", [rows, matrix, *users], transB=1), wide(value))
    vectors = text.node("Transpose", [form.view(b, (times, size))], perm=[2, 1, 0])  # [d, T, 1]
    weights = weight.constant.reshape(size, 1, width)
    if of_row.constant.any():
        # One small product a row of U is a third of the time of a multiplication and an addition by broadcasting.
        ones = text.weight(np.ones((size, times, 1), np.float32))
        vectors = text.node("Concat", [vectors, ones], axis=2)
        weights = np.concatenate([weights, of_row.constant.reshape(size, 1, width)], axis=1)
    product = text.node("MatMul", [vectors, text.weight(weights)])
    matrix = text.node("Reshape", [product, text.shape([size, times * width])])
    if a.tail[-1] > size:
        return Written(text.node("MatMul", [rows, text.node("Concat", [matrix, *users], axis=0)]), wide(value))
    return Written(text.node("Gemm", [rows, matrix, *users]), wide(value))


def _scaled(form: FormWriter, vectors: str, weight: np.ndarray, of_row: np.ndarray) -> str:
    """The user's vectors [T, d] with the weight of a layer of one output in them."""
    if (weight != 1).any():
        vectors = form.text.node("Mul", [vectors, form.text.weight(weight.reshape(1, -1))])
    return form.text.node("Add", [vectors, form.text.weight(of_row.reshape(1, -1))]) if of_row.any() else vectors


def _matmul(form: FormWriter, value: Value) -> Written:
    left, right = value.inputs
    text = form.text
    if form.of_one(right):
        matrix = text.node("Squeeze", [form.view(right, right.tail), text.shape([0])])
        return Written(text.node("MatMul", [form.view(left, flat(left)), matrix]), flat(value))
    if form.of_one(left) and right.tail[1] == 1:
        matrix = text.node("Squeeze", [form.view(left, left.tail), text.shape([0])])
        return Written(text.node("Gemm", [form.view(right, wide(right)), matrix], transB=1), wide(value))
    return Written(text.node("MatMul", [form.view(left, left.tail), form.view(right, right.tail)]), value.tail)


def _opaque(form: FormWriter, value: Value) -> Written:
    """A barrier: the node as it was, over tensors shaped as they were."""
    node = onnx.NodeProto.FromString(_bytes(value.attribute("node")))
    shapes: Any = value.attribute("shapes")
    given = []
    for each, shape in zip(value.inputs, shapes, strict=True):
        given.append(form.text.weight(each.data) if each.data is not None else form.rows(each, tuple(shape[1:])))
    known = iter(given)
    outputs = [form.text.fresh(node.op_type) if name else "" for name in node.output]
    names = [next(known) if name else "" for name in node.input]
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[:], copy.output[:]
    copy.input.extend(names)
    copy.output.extend(outputs)
    form.text.nodes.append(copy)
    return Written(outputs[value.number("output")], value.tail)


def _bytes(data: object) -> bytes:
    assert isinstance(data, bytes)
    return data


WRITERS: dict[str, Callable[[FormWriter, Value], Written]] = {
    RESHAPE: _reshape,
    EXPAND: _expand,
    ELEMENTWISE: _elementwise,
    CONCAT: _concat,
    SLICE: _slice,
    TAKE: _take,
    EMBED: _embed,
    REDUCE_SUM: _reduce_sum,
    ROW_WISE: _row_wise,
    LINEAR: _linear,
    SUM: _sum,
    GEMM: _gemm,
    PAIR_GEMM: _pair_gemm,
    MATMUL: _matmul,
    OPAQUE: _opaque,
}
