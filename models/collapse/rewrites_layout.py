"""Rewritings of reshapes, slices, expansions and concatenations. None changes a number.

Each moves an operation below what it does not concern, so that a concatenation of the user's, the item's and the pair's values
stays one as long as possible and can be taken apart by the linear layer or the sum that reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from models.collapse.dependence import Kind, kind_of
from models.collapse.graph_ir import (
    CONCAT,
    EXPAND,
    LINEAR,
    RESHAPE,
    SLICE,
    SPREAD,
    SUM,
    TAKE,
    Axis,
    NotUnderstoodError,
    Value,
    Values,
    broadcast_tail,
)


def lifted(values: Values, inputs: Sequence[Value], build: Callable[[list[Value]], Value]) -> Value | None:
    """Work on nothing but spread values of users, done on the users axis and spread afterwards; None when it is not."""
    rows = [value for value in inputs if value.axis is Axis.ROWS]
    if not rows or any(value.op != SPREAD for value in rows):
        return None
    return values.spread(build([value.inputs[0] if value.op == SPREAD else value for value in inputs]))


def is_mixed(value: Value) -> bool:
    """Whether ``value`` is a concatenation of parts of several kinds (constants are left alone)."""
    kinds = {kind_of(part) for part in value.inputs} if value.op == CONCAT else set()
    return len(kinds) > 1 and Kind.CONSTANT not in kinds


def expand(values: Values, value: Value, tail: Sequence[int]) -> Value:
    """``value`` broadcast to ``tail``."""
    tail = broadcast_tail([value.tail, tuple(tail)])
    if value.tail == tail:
        return value
    if value.data is not None:
        return values.constant(np.broadcast_to(value.data, tail))
    if value.op == EXPAND:
        return expand(values, value.inputs[0], tail)
    if len(tail) != len(value.tail):
        raise NotUnderstoodError("expansion to another rank")
    return values.make(EXPAND, [value], tail)


def unexpanded(value: Value) -> Value:
    """``value`` before its axes were repeated."""
    return value.inputs[0] if value.op == EXPAND else value


def concat(values: Values, parts: Sequence[Value], axis: int) -> Value:
    """``parts`` side by side on axis ``axis`` of the tail."""
    flat = [each for part in parts for each in _opened(part, axis)]
    if len(flat) == 1:
        return flat[0]
    if all(part.data is not None for part in flat):
        return values.constant(np.concatenate([part.constant for part in flat], axis=axis))
    done = lifted(values, flat, lambda inner: concat(values, inner, axis))
    if done is not None:
        return done
    tail = list(flat[0].tail)
    if any(len(part.tail) != len(tail) for part in flat):
        raise NotUnderstoodError("concatenation of several ranks")
    tail[axis] = sum(part.tail[axis] for part in flat)
    if any((*p.tail[:axis], *p.tail[axis + 1 :]) != (*tail[:axis], *tail[axis + 1 :]) for p in flat):
        raise NotUnderstoodError("concatenation of unequal shapes")
    first = next(part for part in flat if part.data is None)
    return values.make(CONCAT, flat, tail, attributes=(("axis", axis),), dtype=first.dtype)


def _opened(part: Value, axis: int) -> tuple[Value, ...]:
    return part.inputs if part.op == CONCAT and part.number("axis") == axis else (part,)


def slice_of(values: Values, value: Value, axis: int, start: int, stop: int) -> Value:
    """``value[..., start:stop, ...]`` on axis ``axis`` of the tail."""
    if (start, stop) == (0, value.tail[axis]):
        return value
    if value.data is not None:
        return values.constant(value.data[(slice(None),) * axis + (slice(start, stop),)])
    done = lifted(values, [value], lambda inner: slice_of(values, inner[0], axis, start, stop))
    if done is not None:
        return done
    attributes = (("axis", axis), ("start", start), ("stop", stop))
    below = _slice_below(values, value, axis, start, stop)
    return below or values.make(SLICE, [value], _with(value.tail, axis, stop - start), attributes=attributes)


def _slice_below(values: Values, value: Value, axis: int, start: int, stop: int) -> Value | None:
    """The slice moved below a concatenation, an expansion, a sum or another slice."""
    if value.op == CONCAT:
        return _slice_of_concat(values, value, axis, start, stop)
    if value.op == SLICE and value.number("axis") == axis:
        offset = value.number("start")
        return slice_of(values, value.inputs[0], axis, offset + start, offset + stop)
    if value.op == EXPAND and value.inputs[0].tail[axis] == value.tail[axis]:
        inner = slice_of(values, value.inputs[0], axis, start, stop)
        return expand(values, inner, _with(value.tail, axis, stop - start))
    if value.op == SUM and all(term.tail == value.tail or term.data is not None for term in value.inputs):
        full = [_broadcast(values, term, value.tail) for term in value.inputs]
        terms = [slice_of(values, term, axis, start, stop) for term in full]
        return values.make(SUM, terms, _with(value.tail, axis, stop - start), dtype=value.dtype)
    return None


def _broadcast(values: Values, term: Value, tail: tuple[int, ...]) -> Value:
    return term if term.data is None else values.constant(np.broadcast_to(term.data, tail))


def _slice_of_concat(values: Values, value: Value, axis: int, start: int, stop: int) -> Value:
    along = value.number("axis")
    if along != axis:
        return concat(values, [slice_of(values, part, axis, start, stop) for part in value.inputs], along)
    parts, place = [], 0
    for part in value.inputs:
        size = part.tail[axis]
        low, high = max(start - place, 0), min(stop - place, size)
        if low < high:
            parts.append(slice_of(values, part, axis, low, high))
        place += size
    return concat(values, parts, axis)


def _with(tail: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*tail[:axis], size, *tail[axis + 1 :])


def take(values: Values, value: Value, axis: int, indices: Sequence[int]) -> Value:
    """``value`` at ``indices`` of axis ``axis`` of the tail: slices where the indices are neighbours."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    if len(runs) == 1 or is_mixed(value):
        return concat(values, [slice_of(values, value, axis, run[0], run[-1] + 1) for run in runs], axis)
    done = lifted(values, [value], lambda inner: take(values, inner[0], axis, indices))
    if done is not None:
        return done
    attributes = (("axis", axis), ("indices", tuple(indices)))
    return values.make(TAKE, [value], _with(value.tail, axis, len(indices)), attributes=attributes)


def reshape(values: Values, value: Value, tail: Sequence[int]) -> Value:
    """``value`` with the tail ``tail``; the leading axis stays."""
    tail = tuple(tail)
    if math.prod(tail) != value.width:
        raise NotUnderstoodError(f"reshape of {value.tail} to {tail}")
    if tail == value.tail:
        return value
    if value.data is not None:
        return values.constant(value.data.reshape(tail))
    if value.op == RESHAPE:
        return reshape(values, value.inputs[0], tail)
    done = lifted(values, [value], lambda inner: reshape(values, inner[0], tail))
    return done or _reshape_below(values, value, tail) or values.make(RESHAPE, [value], tail)


def _reshape_below(values: Values, value: Value, tail: tuple[int, ...]) -> Value | None:
    """The reshape moved below a concatenation, or below a linear layer or sum that it leaves the last axis of."""
    if value.op == CONCAT:
        return _reshape_of_concat(values, value, tail)
    if tail[-1] != value.tail[-1]:
        return None
    if value.op == LINEAR:
        x, weight = value.inputs
        return values.make(LINEAR, [reshape(values, x, (*tail[:-1], x.tail[-1])), weight], tail)
    if value.op == SUM and all(term.tail == value.tail or _only_last(term) for term in value.inputs):
        terms = [_flat_constant(values, t) if t.data is not None else reshape(values, t, tail) for t in value.inputs]
        return values.make(SUM, terms, tail, dtype=value.dtype)
    return None


def _only_last(term: Value) -> bool:
    return term.data is not None and term.data.size == (term.tail[-1] if term.tail else 1)


def _flat_constant(values: Values, term: Value) -> Value:
    return values.constant(term.constant.reshape(term.tail[-1:]))


def _reshape_of_concat(values: Values, value: Value, tail: tuple[int, ...]) -> Value | None:
    """Axes from the concatenated one inwards merged or split: each part is a block of whole rows of the new tail."""
    axis = value.number("axis")
    if len(tail) <= axis or tail[:axis] != value.tail[:axis]:
        return None
    inner = math.prod(tail[axis + 1 :])
    sizes = [math.prod(part.tail[axis:]) for part in value.inputs]
    if any(size % inner for size in sizes):
        return None
    pairs = zip(value.inputs, sizes, strict=True)
    return concat(values, [reshape(values, part, _with(tail, axis, size // inner)) for part, size in pairs], axis)
