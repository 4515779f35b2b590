"""The graph as a directed acyclic graph of values, each with its axis, its fixed shape and what it depends on.

A value of the users or the rows axis has that axis first and a fixed ``tail`` behind it: a tensor [rows, 50, 32] is
``Axis.ROWS`` with the tail (50, 32). A vector [rows] has the tail (1,). Constants have no axis: their whole shape is the tail,
right-aligned with the tails it meets. Equal values are one object, so that work that stands twice in the graph is done once.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

SPREAD = "spread"
"""A value of users repeated for each of their rows: the only way from the users axis to the rows axis."""
EXPAND = "expand"
"""Axes of the tail repeated by broadcasting."""
SUM = "sum"
"""Terms added, with broadcasting."""
LINEAR = "linear"
"""``x @ W`` over the last axis, W constant [K, N]."""
MATMUL = "matmul"
CONCAT = "concat"
SLICE = "slice"
TAKE = "take"
RESHAPE = "reshape"
REDUCE_SUM = "reduce_sum"
EMBED = "embed"
ROW_WISE = "row_wise"
OPAQUE = "opaque"
ELEMENTWISE = "elementwise"
INPUT = "input"
CONSTANT = "constant"


class NotUnderstoodError(Exception):
    """Something in the graph has no place in the representation: the graph stays as it is."""


class Axis(Enum):
    """What the first dimension counts."""

    USERS = "users"
    ROWS = "rows"


class Source(Enum):
    """What a value depends on; ``BARRIER`` is an operation whose workings are not known."""

    USER = "user"
    ITEM = "item"
    CANDIDATE = "candidate"
    BARRIER = "barrier"


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One value: how it is made, and its type. Compared by identity."""

    op: str
    inputs: tuple[Value, ...]
    attributes: tuple[tuple[str, Hashable], ...]
    axis: Axis | None
    tail: tuple[int, ...]
    dtype: np.dtype
    sources: frozenset[Source]
    data: np.ndarray | None = None

    def attribute(self, name: str) -> object:
        """The attribute called ``name``."""
        return dict(self.attributes)[name]

    def number(self, name: str) -> int:
        """An attribute that is a whole number."""
        return int(str(self.attribute(name)))

    @property
    def constant(self) -> np.ndarray:
        """The array of a constant."""
        if self.data is None:
            raise NotUnderstoodError(f"{self.op} is no constant")
        return self.data

    @property
    def width(self) -> int:
        """Numbers per row."""
        return math.prod(self.tail)


Attributes = tuple[tuple[str, Hashable], ...]


class Values:
    """Makes values and keeps equal ones one."""

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, ...], Value] = {}

    def constant(self, data: np.ndarray) -> Value:
        """A constant; equal arrays of up to a megabyte are one value."""
        data = np.asarray(data, order="C")
        content: Hashable = data.tobytes() if data.nbytes <= 1 << 20 else id(data)
        key = (CONSTANT, data.shape, data.dtype.str, content)
        if key not in self._known:
            self._known[key] = Value(CONSTANT, (), (), None, data.shape, data.dtype, frozenset(), data)
        return self._known[key]

    def make(
        self,
        op: str,
        inputs: Sequence[Value],
        tail: Sequence[int],
        *,
        attributes: Attributes = (),
        dtype: np.dtype | None = None,
        axis: Axis | None = None,
        sources: frozenset[Source] = frozenset(),
    ) -> Value:
        """A value of ``op`` over ``inputs``, on their axis (``axis`` wins) and of the first one's type unless told.

        Raises:
            NotUnderstoodError: the inputs stand on two axes.
        """
        axes = {value.axis for value in inputs} - {None}
        if axis is None and len(axes) > 1:
            raise NotUnderstoodError(f"{op} over both axes")
        axis = axis or next(iter(axes), None)
        dtype = np.dtype(dtype or inputs[0].dtype)
        key = (op, tuple(id(value) for value in inputs), attributes, axis, tuple(tail), dtype.str)
        if key not in self._known:
            union = sources.union(*(value.sources for value in inputs))
            if axis is Axis.USERS:
                union = frozenset({Source.USER})
            self._known[key] = Value(op, tuple(inputs), attributes, axis, tuple(tail), dtype, union)
        return self._known[key]

    def spread(self, value: Value) -> Value:
        """``value`` of users for each row; repeated axes stay outermost, where the next operation drops them."""
        if value.axis is None:
            return value
        if value.op == EXPAND:
            return self.make(EXPAND, [self.spread(value.inputs[0])], value.tail)
        return self.make(SPREAD, [value], value.tail, axis=Axis.ROWS, sources=frozenset({Source.USER}))


def broadcast_tail(tails: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tail that values of these tails have together.

    Raises:
        NotUnderstoodError: they do not fit.
    """
    try:
        return tuple(np.broadcast_shapes(*tails))
    except ValueError as error:
        raise NotUnderstoodError(str(error)) from error
