"""Sums over an axis, split by what is summed: field sums of a factorization machine fall apart into the user's and the item's.

The square of such a sum opens into ``|a|^2 + 2 a.b + |b|^2``, of which only the product of the item's and the user's vector is
left for each candidate.
"""

from __future__ import annotations

import numpy as np

from models.collapse.dependence import Kind, is_live, kind_of
from models.collapse.graph_ir import ELEMENTWISE, EXPAND, REDUCE_SUM, SPREAD, SUM, Value, Values
from models.collapse.rewrites_elementwise import add, elementwise, scale
from models.collapse.rewrites_layout import concat, expand, is_mixed, lifted
from models.collapse.rewrites_linear import linear


def reduce_sum(values: Values, x: Value, axis: int) -> Value:
    """The sum over axis ``axis`` of the tail, which stays with length 1."""
    if x.tail[axis] == 1:
        return x
    if x.data is not None:
        return values.constant(x.data.sum(axis, keepdims=True))
    done = lifted(values, [x], lambda inner: reduce_sum(values, inner[0], axis))
    if done is not None:
        return done
    return _split(values, x, axis) or values.make(REDUCE_SUM, [x], _summed(x, axis), attributes=(("axis", axis),))


def _summed(x: Value, axis: int) -> tuple[int, ...]:
    return (*x.tail[:axis], 1, *x.tail[axis + 1 :])


def _split(values: Values, x: Value, axis: int) -> Value | None:
    if x.op == EXPAND:
        return expand(values, _of_repeated(values, x.inputs[0], x.tail[axis], axis), _summed(x, axis))
    if is_mixed(x):
        return _of_concat(values, x, axis)
    if x.op == SUM:
        terms = [_of_repeated(values, _with_axis(values, term, x), x.tail[axis], axis) for term in x.inputs]
        return expand(values, add(values, terms, opened=[True] * len(terms)), _summed(x, axis))
    if x.op == ELEMENTWISE and x.attribute("op") == "Mul":
        return _of_product(values, x, axis)
    return None


def _with_axis(values: Values, term: Value, whole: Value) -> Value:
    """A constant with all axes of the sum that it stands in."""
    if term.data is None:
        return term
    return values.constant(term.data.reshape((1,) * (len(whole.tail) - len(term.tail)) + term.tail))


def _of_repeated(values: Values, x: Value, times: int, axis: int) -> Value:
    return scale(values, x, np.array(times)) if x.tail[axis] != times else reduce_sum(values, x, axis)


def _of_concat(values: Values, x: Value, axis: int) -> Value:
    along = x.number("axis")
    if along != axis:
        return concat(values, [reduce_sum(values, part, axis) for part in x.inputs], along)
    kinds: dict[Kind, list[Value]] = {}
    for part in x.inputs:
        kinds.setdefault(kind_of(part), []).append(part)
    sums = [reduce_sum(values, concat(values, parts, axis), axis) for parts in kinds.values()]
    return add(values, sums, opened=[True] * len(sums))


def _of_product(values: Values, x: Value, axis: int) -> Value | None:
    left, right = x.inputs
    if left is right:
        return _of_square(values, left, axis)
    for factor, other in ((left, right), (right, left)):
        if factor.data is not None and factor.data.size == 1 and other.tail == x.tail:
            return scale(values, reduce_sum(values, other, axis), factor.data.reshape(()), own=True)
    if any(each.data is not None or len(each.tail) != len(x.tail) for each in x.inputs):
        return None
    if axis == len(x.tail) - 1 and left.tail[-1] == right.tail[-1] and SPREAD in (left.op, right.op):
        # A sum of products with the user's vector is a linear layer, which the form for one user makes a plain product.
        return linear(values, x, np.ones((x.tail[axis], 1), x.dtype))
    return None


def _of_square(values: Values, base: Value, axis: int) -> Value | None:
    """``sum (a + b)^2`` of the item's ``a`` and the user's ``b`` (with the constants)."""
    if base.op != SUM or any(is_live(term) or term.tail != base.tail for term in base.inputs if term.data is None):
        return None
    item = [term for term in base.inputs if kind_of(term) is Kind.ITEM]
    rest = [term for term in base.inputs if kind_of(term) is not Kind.ITEM]
    if not item or all(term.data is not None for term in rest):
        return None
    pair = add(values, item), add(values, rest)
    squares = [reduce_sum(values, elementwise(values, "Mul", [each, each], each.dtype), axis) for each in pair]
    product = reduce_sum(values, elementwise(values, "Mul", list(pair), base.dtype), axis)
    return add(values, [*squares, scale(values, product, np.array(2.0), own=True)])
