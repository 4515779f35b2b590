"""Rewritings of elementwise work: lifted to the users axis, taken below concatenations, sums grouped by kind.

A sum keeps its terms apart by kind (the user's, the item's, live ones); which of them are added where is decided when a form is
written. A multiplication by a constant (batch normalization at inference, a subtraction) moves into the linear layers it
scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from models.collapse.dependence import Kind, is_live, kind_of
from models.collapse.graph_ir import (
    CONCAT,
    ELEMENTWISE,
    LINEAR,
    SPREAD,
    SUM,
    Attributes,
    Axis,
    NotUnderstoodError,
    Value,
    Values,
    broadcast_tail,
)
from models.collapse.rewrites_layout import concat, expand, is_mixed, lifted, slice_of, unexpanded


def elementwise(values: Values, op: str, inputs: Sequence[Value], dtype: np.dtype, attributes: Attributes = ()) -> Value:
    """The ONNX operator ``op``, which works on each number apart, with broadcasting."""
    full = broadcast_tail([value.tail for value in inputs])
    bare = [unexpanded(value) for value in inputs]
    if broadcast_tail([value.tail for value in bare]) != full:
        return expand(values, elementwise(values, op, bare, dtype, attributes), full)
    done = lifted(values, bare, lambda inner: elementwise(values, op, inner, dtype, attributes))
    if done is not None:
        return done
    parts = _by_part(values, bare, full)
    if parts is not None:
        axis, groups = parts
        return concat(values, [elementwise(values, op, group, dtype, attributes) for group in groups], axis)
    return values.make(ELEMENTWISE, bare, full, attributes=(("op", op), *attributes), dtype=dtype)


def _by_part(values: Values, inputs: Sequence[Value], full: tuple[int, ...]) -> tuple[int, list[list[Value]]] | None:
    """The inputs of each part of a concatenation of several kinds, which all inputs share; None when there is none."""
    mixed = next((value for value in inputs if is_mixed(value)), None)
    if mixed is None or mixed.tail[mixed.number("axis")] != full[mixed.number("axis")]:
        return None
    axis, sizes = mixed.number("axis"), [part.tail[mixed.number("axis")] for part in mixed.inputs]
    columns = [_parts_of(values, value, axis - len(full) + len(value.tail), sizes) for value in inputs]
    if any(column is None for column in columns):
        return None
    return axis, [list(group) for group in zip(*(column for column in columns if column is not None), strict=True)]


def _parts_of(values: Values, value: Value, axis: int, sizes: list[int]) -> Sequence[Value] | None:
    """What each part of the concatenation meets of another operand, whose axis ``axis`` is the concatenated one."""
    if axis < 0 or value.tail[axis] == 1:
        return [value] * len(sizes)
    if value.data is not None:
        stops = np.cumsum(sizes).tolist()
        return [slice_of(values, value, axis, stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]
    same = value.op == CONCAT and value.number("axis") == axis and [part.tail[axis] for part in value.inputs] == sizes
    return value.inputs if same else None


def add(values: Values, terms: Sequence[Value], *, opened: Sequence[bool] = ()) -> Value:
    """The sum of ``terms`` (float), with broadcasting.

    A sum among the terms is merged into this one where ``opened`` says that nothing else reads it, or where none of its terms
    is live, so that no work is done twice.
    """
    full = broadcast_tail([term.tail for term in terms])
    may_open = [*opened, *[False] * (len(terms) - len(opened))]
    flat = [each for term, own in zip(terms, may_open, strict=True) for each in _opened(unexpanded(term), own)]
    done = lifted(values, flat, lambda inner: add(values, inner))
    if done is None:
        parts = _by_part(values, flat, broadcast_tail([term.tail for term in flat]))
        if parts is None:
            return expand(values, _grouped(values, flat), full)
        done = concat(values, [add(values, group) for group in parts[1]], parts[0])
    return expand(values, done, full)


def _opened(term: Value, own: bool) -> tuple[Value, ...]:
    return term.inputs if term.op == SUM and (own or not any(is_live(each) for each in term.inputs)) else (term,)


def _grouped(values: Values, terms: Sequence[Value]) -> Value:
    """One term of constants, one of the users' terms; the rest apart."""
    constants = [term.constant for term in terms if term.data is not None]
    spread = [term for term in terms if term.data is None and term.op == SPREAD]
    rest = [term for term in terms if term.data is None and term.op != SPREAD]
    grouped = list(rest)
    if spread:
        inner = [term.inputs[0] for term in spread]
        grouped.append(values.spread(add(values, inner) if len(inner) > 1 else inner[0]))
    if constants:
        total = reduce(np.add, constants)
        if grouped and not total.any() and np.broadcast_shapes(total.shape, *(t.tail for t in grouped)) == _full(grouped):
            constants = []
        else:
            grouped.append(values.constant(total))
    if len(grouped) == 1:
        return grouped[0]
    return values.make(SUM, grouped, _full(grouped), dtype=grouped[0].dtype)


def _full(terms: Sequence[Value]) -> tuple[int, ...]:
    return broadcast_tail([term.tail for term in terms])


def scale(values: Values, value: Value, factor: np.ndarray, *, own: bool = False) -> Value:
    """``value * factor`` (float); with ``own`` nothing else reads ``value``, so that the factor may move into its layers."""
    factor = np.asarray(factor, dtype=value.dtype)
    if factor.size and (factor == 1).all() and broadcast_tail([value.tail, factor.shape]) == value.tail:
        return value
    if value.data is not None:
        return values.constant(value.data * factor)
    value = _checked(value)
    inside = _scaled_inside(values, value, factor, own=own)
    if inside is not None:
        return inside
    return elementwise(values, "Mul", [value, values.constant(factor)], value.dtype)


def _checked(value: Value) -> Value:
    if value.dtype.kind != "f":
        raise NotUnderstoodError("scale of whole numbers")
    return value


def _scaled_inside(values: Values, value: Value, factor: np.ndarray, *, own: bool) -> Value | None:
    if broadcast_tail([value.tail, factor.shape]) != value.tail:
        return None
    if value.op == ELEMENTWISE and value.attribute("op") == "Mul" and value.inputs[1].data is not None:
        return scale(values, value.inputs[0], value.inputs[1].data * factor)
    if value.op == SPREAD and value.axis is Axis.ROWS:
        return values.spread(scale(values, value.inputs[0], factor, own=own))
    if value.op == LINEAR and own and last_axis_only(factor):
        x, weight = value.inputs
        return values.make(LINEAR, [x, values.constant(weight.constant * factor.reshape(-1))], value.tail)
    if value.op == SUM and (own or not is_live(value)) and _worth_scaling(value, factor):
        return add(values, [_scaled_term(values, term, factor) for term in value.inputs])
    return None


def _scaled_term(values: Values, term: Value, factor: np.ndarray) -> Value:
    return scale(values, term, factor, own=True)


def _worth_scaling(value: Value, factor: np.ndarray) -> bool:
    """Whether scaling each term is no more work than scaling the sum: at most one multiplication, or of one number a row."""
    return value.width == 1 or sum(not _absorbs(term, factor) for term in value.inputs) <= 1


def _absorbs(term: Value, factor: np.ndarray) -> bool:
    if kind_of(term) is not Kind.LIVE:
        return True
    return term.op == LINEAR and last_axis_only(factor)


def last_axis_only(factor: np.ndarray) -> bool:
    """Whether a constant varies along the last axis only."""
    return factor.size == (factor.shape[-1] if factor.shape else 1)
