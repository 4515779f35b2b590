"""Ids that came as numbers, kept as numbers: their texts, which name them in the store, are made only where one is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


class IntegerIds(Sequence[str]):
    """The canonical texts of ``values``, int64 [n], as a sequence; equal to any sequence of the same texts."""

    __slots__ = ("values",)

    def __init__(self, values: Integers) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> IntegerIds: ...
    def __getitem__(self, place: int | slice) -> str | IntegerIds:
        if isinstance(place, slice):
            return IntegerIds(self.values[place])
        return str(self.values[place])

    def __iter__(self) -> Iterator[str]:
        return map(str, self.values.tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, IntegerIds):
            return np.array_equal(self.values, other.values)
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"IntegerIds({self.values.tolist()})"
