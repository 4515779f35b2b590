"""The order of scores: best first, equal ones as they came; exactly that of a stable sort, by the cheapest way to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_FEW = 700
"""Up to here numpy's stable sort is the fastest; measured, float32."""


def best_first(scores: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Places of the ``count`` best of [rows] finite scores (at least 1, at most rows), int64 [count]."""
    if scores.size <= _FEW:
        return (-scores).argsort(kind="stable")[:count]
    if 2 * count <= scores.size:
        return _best_few(-scores, count)
    if scores.dtype == np.float32:
        return _packed_order(scores)[:count]
    return (-scores).argsort(kind="stable")[:count]


def _best_few(negated: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Only those up to the last that counts are sorted: they, and whoever is equal to it, in the order they came."""
    last = np.partition(negated, count - 1)[count - 1]
    candidates = np.flatnonzero(negated <= last)
    return candidates[negated[candidates].argsort(kind="stable")[:count]]


def _packed_order(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """A stable sort as a plain one, of integers that hold a score's order above and its place below."""
    bits = (np.float32(0.0) - scores).view(np.int32)  # not the sign turned: 0.0 and -0.0 are equal
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)  # the order of floats as that of integers
    keys = bits.astype(np.int64) << 32
    keys |= np.arange(scores.size)
    keys.sort()
    keys &= 0xFFFFFFFF
    return keys
