"""What a raw feature value may be, and the one text form of a category.

Values reach the encoder from tables, from Redis and from JSON requests; all three must mean the same. Integers and their
decimal text are the same category, since one table stores ids as numbers and the next as text. Empty text is no category:
it means missing, as an empty cell of a CSV does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LARGEST_CATEGORY_BITS = 128

Scalar = str | int | float | bool
RawValue = Scalar | Sequence[str | int] | None


class ValueRefusedError(ValueError):
    """A value of a type or size that the field's kind does not accept."""


def category_text(value: object) -> str:
    """The canonical text of one category value.

    Raises:
        ValueRefusedError: floats, anything else that is not text, an integer or a truth value, and integers beyond 128 bits.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to print integers of thousands of digits, with an error that no caller expects.
        if value.bit_length() > LARGEST_CATEGORY_BITS:
            raise ValueRefusedError(f"an integer category must fit {LARGEST_CATEGORY_BITS} bits")
        return str(value)
    raise ValueRefusedError(f"a category must be text or an integer, not {type(value).__name__}")


def number_value(value: object) -> float:
    """One number as a float; None is NaN, meaning missing.

    Raises:
        ValueRefusedError: text, lists, infinities, integers beyond a double.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            raise ValueRefusedError("a number must fit a double") from None
        if math.isinf(number):
            raise ValueRefusedError("a number must be finite")
        return number
    raise ValueRefusedError(f"a number is needed, not {type(value).__name__}")
