"""Linear layers taken apart by what their input is made of.

``W [a, b] = W_a a + W_b b``: a layer over a concatenation (or a sum, a difference, a repeated or scaled value) is a sum of
layers, one a kind: the user's is done once per user, the item's once per item. What stands in the input twice meets one summed
weight: ``W [c, h, c * h, c - h] = (W_c + W_d) c + (W_h - W_d) h + W_p (c * h)``, as in the Deep Interest Network's attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.collapse.dependence import Kind, is_live, kind_of
from models.collapse.graph_ir import CONCAT, ELEMENTWISE, EXPAND, LINEAR, SPREAD, SUM, Value, Values
from models.collapse.rewrites_elementwise import add, elementwise, last_axis_only
from models.collapse.rewrites_layout import concat, expand, is_mixed, lifted


@dataclass(slots=True)
class _Pieces:
    """What a layer's input is made of: values with the weights they meet, and terms of the output that are done."""

    weighted: list[tuple[Value, np.ndarray]] = field(default_factory=list)
    done: list[Value] = field(default_factory=list)

    def merge(self, other: _Pieces) -> None:
        self.weighted += other.weighted
        self.done += other.done

    @property
    def live(self) -> bool:
        return any(is_live(value) for value, _ in self.weighted)


def linear(values: Values, x: Value, weight: np.ndarray) -> Value:
    """``x @ weight`` over the last axis, weight [K, N]."""
    if x.data is not None:
        return values.constant(x.data @ weight)
    done = lifted(values, [x], lambda inner: linear(values, inner[0], weight))
    if done is not None:
        return done
    tail = (*x.tail[:-1], weight.shape[1])
    if x.op == EXPAND and x.inputs[0].tail[-1] == x.tail[-1]:
        return expand(values, linear(values, x.inputs[0], weight), tail)
    if is_mixed(x) and x.number("axis") != len(x.tail) - 1:
        return concat(values, [linear(values, part, weight) for part in x.inputs], x.number("axis"))
    pieces = _pieces_of(values, x, weight) if is_live(x) else _Pieces()
    if not _worth_splitting(x, pieces):
        return values.make(LINEAR, [x, values.constant(weight)], tail)
    return expand(values, add(values, [*pieces.done, *_layers(values, _merged(pieces.weighted))]), tail)


def _worth_splitting(x: Value, pieces: _Pieces) -> bool:
    """Whether something is not live, is done already, stands twice, or is simpler than ``x``."""
    if len(pieces.weighted) == 1 and pieces.weighted[0][0] is not x:
        return True
    if pieces.done or len(_merged(pieces.weighted)) < len(pieces.weighted):
        return True
    return any(not is_live(value) for value, _ in pieces.weighted)


def _merged(weighted: Iterable[tuple[Value, np.ndarray]]) -> list[tuple[Value, np.ndarray]]:
    """One entry a value: ``A x + B x = (A + B) x``."""
    merged: dict[int, tuple[Value, np.ndarray]] = {}
    for value, weight in weighted:
        before = merged.get(id(value))
        merged[id(value)] = (value, weight if before is None else before[1] + weight)
    return list(merged.values())


def _layers(values: Values, weighted: list[tuple[Value, np.ndarray]]) -> list[Value]:
    """One layer for all values of the user of one shape, one for all live ones, one for each of the item's; the constants."""
    groups: dict[tuple[Kind, tuple[int, ...]], list[tuple[Value, np.ndarray]]] = {}
    terms = []
    for value, weight in weighted:
        kind = kind_of(value)
        if kind is Kind.CONSTANT:
            terms.append(values.constant(np.broadcast_to(value.constant, (*value.tail[:-1], len(weight))) @ weight))
        elif kind is Kind.ITEM:
            terms.append(_layer(values, [(value, weight)]))
        else:
            groups.setdefault((kind, value.tail[:-1]), []).append((value, weight))
    return terms + [_layer(values, group) for group in groups.values()]


def _layer(values: Values, group: Sequence[tuple[Value, np.ndarray]]) -> Value:
    x = concat(values, [value for value, _ in group], len(group[0][0].tail) - 1)
    weight = np.concatenate([weight for _, weight in group])

    def build(inner: list[Value]) -> Value:
        tail = (*inner[0].tail[:-1], weight.shape[1])
        return values.make(LINEAR, [inner[0], values.constant(weight)], tail)

    return lifted(values, [x], build) or build([x])


def _pieces_of(values: Values, x: Value, weight: np.ndarray) -> _Pieces:
    """Takes ``x`` apart as long as that leaves no more live work."""
    if x.op == EXPAND:
        inner = x.inputs[0]
        return _pieces_of(values, inner, _for_width(weight, inner.tail[-1]))
    if x.op == CONCAT and x.number("axis") == len(x.tail) - 1:
        return _of_concat(values, x, weight)
    if x.op == SUM:
        return _of_sum(values, x, weight)
    factors = _of_product(values, x, weight)
    return factors or _Pieces([(x, weight)])


def _for_width(weight: np.ndarray, width: int) -> np.ndarray:
    """The weight that a value repeated along the last axis meets."""
    return weight if width == len(weight) else weight.sum(0, keepdims=True)


def _of_concat(values: Values, x: Value, weight: np.ndarray) -> _Pieces:
    pieces, start = _Pieces(), 0
    for part in x.inputs:
        stop = start + part.tail[-1]
        pieces.merge(_pieces_of(values, part, weight[start:stop]))
        start = stop
    return pieces


def _of_sum(values: Values, x: Value, weight: np.ndarray) -> _Pieces:
    """A sum is taken apart only if nothing of it stays live: else its live terms would meet the weight one by one."""
    pieces = _Pieces()
    for term in x.inputs:
        if term.data is not None:
            full = np.broadcast_to(term.data, (*term.tail[:-1], len(weight)))
            pieces.weighted.append((values.constant(full), weight))
        else:
            pieces.merge(_pieces_of(values, term, _for_width(weight, term.tail[-1])))
    return _Pieces([(x, weight)]) if pieces.live else pieces


def _of_product(values: Values, x: Value, weight: np.ndarray) -> _Pieces | None:
    """A constant factor goes into the weight; a factor that is one number a row goes behind the layer."""
    if x.op == SPREAD:
        inner = _of_product(values, x.inputs[0], weight)
        if inner is None or inner.done:
            return None
        return _Pieces([(values.spread(value), each) for value, each in inner.weighted])
    if x.op != ELEMENTWISE or x.attribute("op") != "Mul":
        return None
    return _first(_factored(values, pair[0], pair[1], weight) for pair in (x.inputs, x.inputs[::-1]))


def _first(found: Iterable[_Pieces | None]) -> _Pieces | None:
    return next((each for each in found if each is not None), None)


def _factored(values: Values, value: Value, factor: Value, weight: np.ndarray) -> _Pieces | None:
    if value.data is not None or value.tail[-1] != len(weight):
        return None
    if factor.data is not None:
        if not last_axis_only(factor.data):
            return None
        scaled = factor.data.reshape(-1, 1) * weight
        return _pieces_of(values, value, scaled) if is_live(value) else _Pieces([(value, scaled)])
    if factor.tail[-1] == 1 and len(weight) > 1 and not is_live(value):
        return _Pieces(done=[elementwise(values, "Mul", [linear(values, value, weight), factor], value.dtype)])
    return None
