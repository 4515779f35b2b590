"""Numbers to network inputs by the declared transform. Arithmetic in float64, the result in float32, everywhere.

No finite input gives an infinite output: raw values are held within ±1e100, so that fitted sums stay finite, and results within
±1e12, so that a network's products of them stay finite in float32.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from feature_store.encoding.values import RawValue, ValueRefusedError, number_value
from feature_store.views import NumberField

LARGEST_RAW = 1e100
LARGEST_ENCODED = 1e12
_CONSTANT = 1e-12

Transform = Literal["none", "standardize", "min_max", "log1p", "log1p_standardize"]
_NUMBER_OR_MISSING = frozenset({float, int, type(None)})


class NumberColumn:
    """Encodes one number field: ``(squash(x) - shift) / scale``, a missing value replaced by ``fill`` first."""

    def __init__(self, name: str, transform: Transform, *, fill: float, shift: float, scale: float) -> None:
        self.name = name
        self.transform: Transform = transform
        self.fill = fill
        self.shift = shift
        self.scale = scale
        self._logarithmic = transform in ("log1p", "log1p_standardize")

    @classmethod
    def fit(cls, field: NumberField, values: npt.NDArray[np.float64]) -> NumberColumn:
        """Fit shift and scale on training values (NaN = missing); a constant column scales by 1.

        What varies by less than rounding, next to the values' own size, is constant.
        """
        present = np.clip(values[~np.isnan(values)], -LARGEST_RAW, LARGEST_RAW)
        squashed = _squash(present, field.transform)
        shift, scale = 0.0, 1.0
        if field.transform in ("standardize", "log1p_standardize") and present.size:
            shift, scale = float(squashed.mean()), float(squashed.std())
        elif field.transform == "min_max" and present.size:
            shift, scale = float(squashed.min()), float(squashed.max() - squashed.min())
        fill = field.default
        if fill is None:
            fill = float(present.mean()) if present.size else 0.0
        if scale <= _CONSTANT * float(np.abs(squashed).max(initial=0.0)):
            scale = 1.0
        return cls(field.name, field.transform, fill=fill, shift=shift, scale=scale)

    def encode(self, values: Sequence[RawValue] | npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Raw values to float32 of shape [n].

        Raises:
            ValueRefusedError: a value that is no finite number, with the field's name and the value's place.
        """
        raw = values if isinstance(values, np.ndarray) else self._to_float64(values)
        raw = np.clip(np.where(np.isnan(raw), self.fill, raw), -LARGEST_RAW, LARGEST_RAW)
        encoded = (_squash(raw, self.transform) - self.shift) / self.scale
        return np.clip(encoded, -LARGEST_ENCODED, LARGEST_ENCODED).astype(np.float32)

    def encode_one(self, value: RawValue) -> float:
        """One raw value as a double: rounded to float32 it is what ``encode`` gives for it alone, in a fraction of the time.

        Raises:
            ValueRefusedError: a value that is no finite number.
        """
        raw = number_value(value)
        if math.isnan(raw):
            raw = self.fill
        raw = min(max(raw, -LARGEST_RAW), LARGEST_RAW)
        if self._logarithmic:
            raw = _signed_log1p(raw)
        return min(max((raw - self.shift) / self.scale, -LARGEST_ENCODED), LARGEST_ENCODED)

    def _to_float64(self, values: Sequence[RawValue]) -> npt.NDArray[np.float64]:
        if _NUMBER_OR_MISSING.issuperset(map(type, values)):
            with contextlib.suppress(OverflowError):  # told below, with its place
                numbers = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
                if not np.isinf(numbers).any():
                    return numbers
        out = np.empty(len(values), dtype=np.float64)
        for row, value in enumerate(values):
            try:
                out[row] = number_value(value)
            except ValueRefusedError as error:
                raise ValueRefusedError(f"field {self.name!r}, value {row}: {error}") from None
        return out

    def to_json(self) -> dict[str, Any]:
        """The fitted state; Python's shortest-repr floats survive the round trip exactly."""
        return {
            "name": self.name,
            "transform": self.transform,
            "fill": self.fill,
            "shift": self.shift,
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> NumberColumn:
        """Rebuild from ``to_json``."""
        return cls(state["name"], state["transform"], fill=state["fill"], shift=state["shift"], scale=state["scale"])


def _signed_log1p(value: float) -> float:
    """``_squash`` of one number. numpy's logarithm, not the standard library's: they may differ in the last bit."""
    if value > 0:
        return float(np.log1p(value))
    return -float(np.log1p(-value)) if value < 0 else 0.0


def _squash(values: npt.NDArray[np.float64], transform: Transform) -> npt.NDArray[np.float64]:
    """The non-linear part of a transform; log1p keeps the sign so that negative numbers stay defined."""
    if transform in ("log1p", "log1p_standardize"):
        return np.sign(values) * np.log1p(np.abs(values))
    return values
