"""What every network's options share: checks that name the option, what it was, and what it may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from models.zoo.inputs import CategoryInput

ActivationName = Literal["relu", "dice"]
EmbeddingSize = int | Literal["fourth_root"]


class OptionsError(ValueError):
    """An option that a network does not know, or a value that it cannot be built with."""


def check_positive(**values: float) -> None:
    """Refuse options that are not above zero.

    Raises:
        OptionsError: naming the option.
    """
    for name, value in values.items():
        if not value > 0:
            raise OptionsError(f"{name} must be above 0, not {value}")


def check_dropout(dropout: float) -> None:
    """Refuse a dropout outside [0, 1).

    Raises:
        OptionsError: naming the option.
    """
    if not 0 <= dropout < 1:
        raise OptionsError(f"dropout must be at least 0 and below 1, not {dropout}")


def check_hidden(**layers: tuple[int, ...]) -> None:
    """Refuse an empty list of layer widths, or a width below one.

    Raises:
        OptionsError: naming the option.
    """
    for name, widths in layers.items():
        if not widths or min(widths) < 1:
            raise OptionsError(f"{name} needs at least one width, each above 0, not {list(widths)}")


def embedding_sizes(
    fields: tuple[CategoryInput, ...], size: EmbeddingSize, factor: float, by_field: Mapping[str, int]
) -> dict[str, int]:
    """The embedding width of each field: its own entry in ``by_field``, else ``size``.

    ``"fourth_root"`` is ``factor`` times the fourth root of the cardinality, rounded up (the rule of thumb of Google's feature
    column guide, with the factor of 10 to 30 that ranking teams use), and never above the cardinality.

    Raises:
        OptionsError: ``by_field`` names a field that is not among ``fields``.
    """
    unknown = by_field.keys() - {field.name for field in fields}
    if unknown:
        known = ", ".join(field.name for field in fields) or "none"
        raise OptionsError(f"embedding_sizes: no category field {sorted(unknown)[0]!r}; there are: {known}")
    return {field.name: by_field.get(field.name) or _size_of(field.cardinality, size, factor) for field in fields}


def _size_of(cardinality: int, size: EmbeddingSize, factor: float) -> int:
    if size == "fourth_root":
        return min(cardinality, math.ceil(factor * math.sqrt(math.sqrt(cardinality))))
    return size
