"""Products of live values with their constant factors outside, where the next layer takes them into its weight.

Dice (arXiv 1706.06978) is ``x (alpha + (1 - alpha) sigmoid(s x + t))`` with a constant a channel each: as written six passes
over [rows, T, H]. With ``w = s x``, which the layer before gives as well as ``x``, and ``k = alpha / (1 - alpha)`` it is
``(1 - alpha) / s * (w (k + sigmoid(w + t)))``: four, none where ``k`` is 0 for ``k``, and the factor goes into the next layer.
Each factor is divided out by itself, never by a difference, so that results differ by float32's rounding alone.
"""

from __future__ import annotations

import numpy as np

from models.collapse.dependence import is_live
from models.collapse.graph_ir import ELEMENTWISE, LINEAR, SUM, Value, Values
from models.collapse.rewrites_elementwise import add, elementwise, last_axis_only, scale

_SMALLEST, _LARGEST = 1e-6, 1e6
"""Factors beyond stay where they are: their reciprocals come near to the ends of float32."""


def scaled_at_layer(values: Values, x: Value, factor: np.ndarray) -> Value | None:
    """``x * factor`` as the layer makes it that makes ``x``; None where that is a multiplication of its own."""
    if not is_live(x) or not _divides(factor) or not last_axis_only(factor):
        return None
    if x.op == LINEAR or (x.op == SUM and all(not is_live(term) or term.op == LINEAR for term in x.inputs)):
        return scale(values, x, factor, own=True)
    return None


def unscaled(values: Values, scaled: Value, factor: np.ndarray) -> Value:
    """``scaled / factor``."""
    return scale(values, scaled, (1 / factor).astype(np.float32))


def product(values: Values, left: Value, right: Value) -> Value:
    """``left * right``, neither a constant, with the constant factors of both outside."""
    full = np.broadcast_shapes(left.tail, right.tail)
    (left, of_left), (right, of_right) = (_factored(values, each, full) for each in (left, right))
    return scale(values, elementwise(values, "Mul", [left, right], left.dtype), of_left * of_right)


def _factored(values: Values, value: Value, full: tuple[int, ...]) -> tuple[Value, np.ndarray]:
    """``value`` as a value and its constant factor: 1 where that would not be applied to as many numbers as before."""
    one = np.ones((), value.dtype)
    if value.tail != full or not is_live(value):
        return value, one
    inner, factor = _scaled_value(value)
    if factor is not None:
        return inner, factor
    return _factored_sum(values, value) or (value, one)


def _scaled_value(value: Value) -> tuple[Value, np.ndarray | None]:
    """``x`` and ``c`` of ``x * c``."""
    if value.op == ELEMENTWISE and value.attribute("op") == "Mul":
        x, factor = value.inputs
        if factor.data is not None and x.tail == value.tail and last_axis_only(factor.data):
            return x, factor.data
    return value, None


def _factored_sum(values: Values, value: Value) -> tuple[Value, np.ndarray] | None:
    """``c g + a`` with constants ``c`` and ``a`` as ``c (g + a / c)``."""
    if value.op != SUM or len(value.inputs) != 2:
        return None
    for term, addend in (value.inputs, value.inputs[::-1]):
        inner, factor = _scaled_value(term)
        if addend.data is not None and factor is not None and _divides(factor):
            return add(values, [inner, values.constant(addend.data / factor)]), factor
    return None


def _divides(factor: np.ndarray) -> bool:
    return bool(((np.abs(factor) >= _SMALLEST) & (np.abs(factor) <= _LARGEST)).all())
