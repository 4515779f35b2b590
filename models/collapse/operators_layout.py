"""What ONNX's movements and reductions mean for values: what is read where, side by side, in which shape."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from models.collapse.graph_ir import EMBED, ROW_WISE, Attributes, NotUnderstoodError, Value, Values
from models.collapse.operation import Operation, Rule
from models.collapse.rewrites_elementwise import scale
from models.collapse.rewrites_layout import concat, expand, is_mixed, lifted, slice_of, take
from models.collapse.rewrites_sums import reduce_sum
from models.collapse.tensors import Tensor, canonical, reshaped, with_rest


def _identity(node: Operation) -> list[Tensor]:
    return [node.tensor(0)]


def _gather(node: Operation) -> list[Tensor]:
    table, ids = node.tensor(0), node.tensor(1)
    axis = node.attributes.get("axis", 0)
    if table.is_constant and axis == 0 and not ids.is_constant:
        return [canonical(node.values, embed(node.values, table.value, ids.value), ids.merged)]
    indices = node.array(1)
    place = table.tail_axis(axis)
    size = table.value.tail[place]
    taken = take(node.values, table.value, place, [int(index) % size for index in indices.ravel()])
    if indices.ndim > 1 or (indices.size and not (-size <= indices.min() <= indices.max() < size)):
        raise NotUnderstoodError("indices of another kind")
    if indices.ndim == 1:
        return [Tensor(taken, table.merged)]
    rest = [size for at, size in enumerate(taken.tail) if at != place and at >= table.merged]
    return [with_rest(node.values, Tensor(taken, table.merged), rest)]


def embed(values: Values, table: Value, ids: Value) -> Value:
    """Rows of a constant table by id, taken below concatenations of ids of several kinds."""
    done = lifted(values, [ids], lambda inner: embed(values, table, inner[0]))
    if done is not None:
        return done
    if is_mixed(ids):
        return concat(values, [embed(values, table, part) for part in ids.inputs], ids.number("axis"))
    return values.make(EMBED, [table, ids], (*ids.tail, *table.tail[1:]))


def _concat(node: Operation) -> list[Tensor]:
    tensors = [node.tensor(place) for place in range(len(node.operands))]
    first = tensors[0]
    if any(tensor.is_constant or tensor.merged != first.merged for tensor in tensors):
        raise NotUnderstoodError("concatenation with constants")
    place = first.tail_axis(node.attributes["axis"])
    return [Tensor(concat(node.values, [tensor.value for tensor in tensors], place), first.merged)]


def _slice(node: Operation) -> list[Tensor]:
    tensor = node.tensor(0)
    starts, stops = node.numbers(1, "starts"), node.numbers(2, "ends")
    axes = node.numbers(3, "axes") if len(node.operands) > 3 else list(range(len(starts)))
    if len(node.operands) > 4 and set(node.numbers(4, "steps")) != {1}:
        raise NotUnderstoodError("a slice with steps")
    value = tensor.value
    for axis, start, stop in zip(axes, starts, stops, strict=True):
        place = tensor.tail_axis(axis)
        low, high, _ = slice(start, stop).indices(value.tail[place])
        if high <= low:
            raise NotUnderstoodError("an empty slice")
        value = slice_of(node.values, value, place, low, high)
    return [Tensor(value, tensor.merged)]


def _split(node: Operation) -> list[Tensor]:
    tensor = node.tensor(0)
    place = tensor.tail_axis(node.attributes.get("axis", 0))
    size = tensor.value.tail[place]
    each = math.ceil(size / node.outputs)
    sizes = (
        node.numbers(1, "split") if len(node.operands) > 1 else [each] * (node.outputs - 1) + [size - each * (node.outputs - 1)]
    )
    starts = np.cumsum([0, *sizes]).tolist()
    parts = [slice_of(node.values, tensor.value, place, start, stop) for start, stop in pairwise(starts)]
    return [Tensor(part, tensor.merged) for part in parts]


def _reshape(node: Operation) -> list[Tensor]:
    return [reshaped(node.values, node.tensor(0), node.numbers(1, "shape"))]


def _flatten(node: Operation) -> list[Tensor]:
    tensor = node.tensor(0)
    if node.attributes.get("axis", 1) != 1 or tensor.rank < 2:
        raise NotUnderstoodError("another flattening")
    return [with_rest(node.values, tensor, (math.prod(tensor.rest),))]


def _squeeze(node: Operation) -> list[Tensor]:
    tensor = node.tensor(0)
    gone = {tensor.tail_axis(axis) - tensor.merged for axis in node.numbers(1, "axes")}
    if any(tensor.rest[place] != 1 for place in gone):
        raise NotUnderstoodError("an axis that is not 1")
    return [with_rest(node.values, tensor, [size for place, size in enumerate(tensor.rest) if place not in gone])]


def _unsqueeze(node: Operation) -> list[Tensor]:
    tensor, axes = node.tensor(0), node.numbers(1, "axes")
    rank = tensor.rank + len(axes)
    places = {axis + rank if axis < 0 else axis for axis in axes}
    if 0 in places or max(places) >= rank:
        raise NotUnderstoodError("a new leading axis")
    sizes = iter(tensor.rest)
    return [with_rest(node.values, tensor, [1 if place in places else next(sizes) for place in range(1, rank)])]


def _expand(node: Operation) -> list[Tensor]:
    tensor, target = node.tensor(0), node.numbers(1, "shape")
    if tensor.merged or len(target) > tensor.rank or (len(target) == tensor.rank and target[0] != 1):
        raise NotUnderstoodError("an expansion of the leading axis")
    rest = target[1:] if len(target) == tensor.rank else target
    return [Tensor(expand(node.values, tensor.value, (*(1,) * (tensor.rank - 1 - len(rest)), *rest)))]


def _reduce(node: Operation) -> list[Tensor]:
    """ReduceSum and ReduceMean over axes that are not the leading one."""
    tensor = node.tensor(0)
    if tensor.value.dtype != np.float32:
        return _row_wise_reduction(node)
    places = _axes(node, tensor)[::-1]
    value, times = tensor.value, math.prod(tensor.value.tail[place] for place in places)
    for place in places:
        value = reduce_sum(node.values, value, place)
    if node.op == "ReduceMean":
        value = scale(node.values, value, np.array(1 / times), own=True)
    return [_dropped(node, Tensor(value, tensor.merged), places)]


def _row_wise_reduction(node: Operation) -> list[Tensor]:
    tensor = node.tensor(0)
    places = _axes(node, tensor)
    tail = tuple(1 if place in places else size for place, size in enumerate(tensor.value.tail))
    value = row_wise(node.values, tensor.value, node.op, tail, (("axes", tuple(places)),))
    return [_dropped(node, Tensor(value, tensor.merged), places)]


def _axes(node: Operation, tensor: Tensor) -> list[int]:
    """Places in the tail, ascending.

    Raises:
        NotUnderstoodError: none is named, which means all or nothing; or the leading one is.
    """
    axes = node.numbers(1, "axes")
    if not axes:
        raise NotUnderstoodError(f"{node.op} without axes")
    return sorted({tensor.tail_axis(axis) for axis in axes})


def _dropped(node: Operation, tensor: Tensor, places: list[int]) -> Tensor:
    if node.attributes.get("keepdims", 1):
        return tensor
    gone = {place - tensor.merged for place in places}
    return with_rest(node.values, tensor, [size for place, size in enumerate(tensor.rest) if place not in gone])


def row_wise(values: Values, value: Value, op: str, tail: tuple[int, ...], attributes: Attributes) -> Value:
    """An operator along axes of the tail: each row by itself."""
    done = lifted(values, [value], lambda inner: row_wise(values, inner[0], op, tail, attributes))
    return done or values.make(ROW_WISE, [value], tail, attributes=(("op", op), *attributes))


def _softmax(node: Operation) -> list[Tensor]:
    tensor = node.tensor(0)
    place = tensor.tail_axis(node.attributes.get("axis", -1))
    value = row_wise(node.values, tensor.value, node.op, tensor.value.tail, (("axis", place),))
    return [Tensor(value, tensor.merged)]


LAYOUT: dict[str, Rule] = {
    "Identity": _identity,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "ReduceSum": _reduce,
    "ReduceMean": _reduce,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
}
