"""How a live sum is added up in a form: the user's terms and the item's terms each as one, the rest into as few products as can
be.

A sum becomes ``GEMM`` values (a product with an addend, one operator of ONNX) and plain additions. In the form for one user a
layer over a product of a row's value with the user's, ``(c * h_t) W``, becomes one plain product ``c U`` with ``U_t = diag(h_t)
W`` made once a run (``PAIR_GEMM``); the item's own term ``c W_c`` and the user's term go into ``U`` and its addend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.collapse.dependence import Kind, is_live, kind_of
from models.collapse.graph_ir import ELEMENTWISE, EXPAND, LINEAR, RESHAPE, SPREAD, SUM, Axis, Value, Values
from models.collapse.rewrites_elementwise import add, last_axis_only
from models.collapse.rewrites_layout import concat, expand

GEMM = "gemm"
"""Inputs x, W (constant) and the addend C: ``x @ W + C`` over the last axis."""
PAIR_GEMM = "pair_gemm"
"""Inputs a [rows, d], b of users [T, d], W (constant [d, H]), W_a (constant [d, H]) and the users' addend [T, H]:
``(a * b_t) @ W + a @ W_a + addend_t``. ``a`` may be [rows, d + 1] with a 1 at the end, which the addend then meets."""
MAX_PAIR_WEIGHTS = 4_000_000
"""A larger ``U`` is not worth making for each user."""
WIDE_SUM = 1_024
"""Numbers a row from which on the item's row brings a 1 for the users' addend."""


def added_up(values: Values, value: Value, *, one_user: bool) -> Value:
    """A live sum or linear layer as products and additions."""
    terms = _terms_of(values, value)
    done = None
    if one_user:
        pair = next((found for term in terms for found in [_product_of(term)] if found is not None), None)
        if pair is not None:
            done, terms = _pair_gemm(values, pair, terms, value.tail)
    if done is None:
        done, terms = _gemm(values, terms, live=True)
    for term in terms:
        done = _plus(values, done, term)
    return expand(values, done, value.tail)


def _terms_of(values: Values, value: Value) -> list[Value]:
    """One user term and one item term at most, with the constants in one of them; live ones last."""
    inputs = value.inputs if value.op == SUM else (value,)
    kinds = {kind: [term for term in inputs if kind_of(term) is kind] for kind in Kind}
    constants = kinds[Kind.CONSTANT]
    if kinds[Kind.USER]:
        users = [each for term in kinds[Kind.USER] for each in on_users(term)]
        kinds[Kind.USER] = [values.spread(add(values, [*users, *constants]))]
    elif kinds[Kind.ITEM]:
        kinds[Kind.ITEM] = [add(values, [*kinds[Kind.ITEM], *constants])]
    if kinds[Kind.USER] or kinds[Kind.ITEM]:
        constants = []
    kinds[Kind.ITEM] = [add(values, kinds[Kind.ITEM])] if len(kinds[Kind.ITEM]) > 1 else kinds[Kind.ITEM]
    return [*constants, *kinds[Kind.USER], *kinds[Kind.ITEM], *kinds[Kind.LIVE]]


def _plus(values: Values, left: Value, right: Value) -> Value:
    if right.op == ELEMENTWISE and right.attribute("op") == "Mul" and is_live(right):
        x, factor = right.inputs
        if factor.data is not None and (factor.data == -1).all() and factor.data.size == 1:
            return _binary(values, "Sub", left, x)
    return _binary(values, "Add", left, right)


def _binary(values: Values, op: str, left: Value, right: Value) -> Value:
    tail = tuple(np.broadcast_shapes(left.tail, right.tail))
    return values.make(ELEMENTWISE, [left, right], tail, attributes=(("op", op),), dtype=left.dtype)


def added_in_order(values: Values, value: Value) -> Value:
    """A sum that is not live: one product with an addend, and the rest added."""
    done, terms = _gemm(values, list(value.inputs), live=False)
    for term in terms:
        done = _plus(values, done, term)
    return expand(values, done, value.tail)


def _gemm(values: Values, terms: list[Value], *, live: bool) -> tuple[Value, list[Value]]:
    """The first linear layer with an addend, and the terms that are left."""
    layer = next((term for term in terms if term.op == LINEAR and (is_live(term) or not live)), None)
    if layer is None:
        return terms[0], terms[1:]
    rest = [term for term in terms if term is not layer]
    addend = next((term for term in rest if _fits(term, layer)), None)
    x, weight = layer.inputs
    inputs = [x, weight] if addend is None else [x, weight, addend]
    return values.make(GEMM, inputs, layer.tail), [term for term in rest if term is not addend]


def _fits(term: Value, layer: Value) -> bool:
    """Whether a term can be the addend of a plain product, whose rows are the layer's flattened."""
    if term.data is not None:
        return last_axis_only(term.data) and term.width in (1, layer.tail[-1])
    return math.prod(layer.tail[:-1]) == 1 and term.tail == layer.tail


@dataclass(frozen=True, slots=True)
class _Product:
    """``(a * b) @ weight`` with ``a`` of rows, of one vector, and ``b`` of users, of one vector or many."""

    term: Value
    a: Value
    b: Value
    weight: np.ndarray


def _product_of(term: Value) -> _Product | None:
    if term.op != LINEAR or not is_live(term) or term.inputs[0].op != ELEMENTWISE:
        return None
    product, weight = term.inputs
    if product.attribute("op") != "Mul" or product.inputs[0] is product.inputs[1]:
        return None
    for a, b in (product.inputs, product.inputs[::-1]):
        if b.op == SPREAD and a.axis is Axis.ROWS and kind_of(a) is not Kind.USER and _is_vector_by_vectors(a, b, product):
            if b.width * weight.tail[1] > MAX_PAIR_WEIGHTS:
                return None
            return _Product(term, a, b.inputs[0], weight.constant)
    return None


def _is_vector_by_vectors(a: Value, b: Value, product: Value) -> bool:
    return math.prod(a.tail[:-1]) == 1 and a.tail[-1] == b.tail[-1] == product.tail[-1] and b.tail == product.tail


def _pair_gemm(values: Values, pair: _Product, terms: list[Value], tail: tuple[int, ...]) -> tuple[Value | None, list[Value]]:
    if pair.term.tail != tail:
        return None, terms
    rest = [term for term in terms if term is not pair.term]
    of_row = np.zeros_like(pair.weight)
    addends: list[Value] = []
    for term in list(rest):
        kind = kind_of(term)
        if kind in (Kind.USER, Kind.CONSTANT):
            addends.append(term)
            rest.remove(term)
        elif kind is Kind.ITEM:
            of_row, left, constants = _from_item(term, pair.a, of_row)
            addends += constants
            rest[rest.index(term) : rest.index(term) + 1] = [add(values, left)] if left else []
    users = _users_addend(values, addends, tail)
    a = _with_one(values, pair.a) if users and math.prod(tail) >= WIDE_SUM and pair.weight.shape[1] > 1 else pair.a
    inputs = [a, pair.b, values.constant(pair.weight), values.constant(of_row), *users]
    return values.make(PAIR_GEMM, inputs, tail, axis=Axis.ROWS), rest


def _with_one(values: Values, a: Value) -> Value:
    """``a`` with a 1 behind it, from the item's row of the table; as it is where it is not of the item alone.

    The users' addend is then one more row of ``U``, where it would otherwise be written to each row before the product.
    """
    inner = a.inputs[0] if a.op == RESHAPE else a
    if kind_of(inner) is not Kind.ITEM or inner.tail[-1] != a.width:
        return a
    one = np.ones((1,) * len(inner.tail), inner.dtype)
    return concat(values, [inner, values.constant(one)], len(one.shape) - 1)


def _from_item(term: Value, a: Value, of_row: np.ndarray) -> tuple[np.ndarray, list[Value], list[Value]]:
    """The item's layers over ``a`` itself, as a weight; the item's other terms; and its constants, which the user's addend
    takes.
    """
    left, constants = [], []
    for each in term.inputs if term.op == SUM else (term,):
        if each.op == LINEAR and each.inputs[0] is a:
            of_row = of_row + each.inputs[1].constant
        elif each.data is not None:
            constants.append(each)
        else:
            left.append(each)
    return of_row, left, constants


def _users_addend(values: Values, addends: Sequence[Value], tail: tuple[int, ...]) -> list[Value]:
    if not addends:
        return []
    total = add(values, [each for addend in addends for each in on_users(addend)])
    return [expand(values, total, tail) if len(total.tail) == len(tail) or total.data is not None else total]


def on_users(value: Value) -> list[Value]:
    """The terms of a value that depends on the user alone, as they are on the users axis."""
    if value.op == EXPAND:
        return on_users(value.inputs[0])
    if value.op == SUM and value.axis is Axis.ROWS:
        return [each for term in value.inputs for each in on_users(term)]
    return [value.inputs[0] if value.op == SPREAD else value]
