"""Many ids at once: the rules of ``schemas.Id`` for whole lists, and their canonical texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np

from feature_store.integer_ids import IntegerIds
from service.api.schemas import INT64_MAX, INT64_MIN, MAX_ID_BYTES

_DIGITS_AS_ZEROS = bytes.maketrans(b"0123456789", b"0" * 10)
_SHORT_DIGITS = 18  # every number of so many digits fits 64 bits
_TOO_LONG = b"0" * (_SHORT_DIGITS + 1)
_decode_integers = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]]).decode
_decode_texts = msgspec.json.Decoder(list[Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_BYTES)]]).decode


def listed_ids(array: bytes) -> Sequence[str] | None:
    """The texts of the ids in a JSON array: ``IntegerIds`` where all were integers.

    None where the list is empty or mixed, or an id is not one; ``array`` must be known to be well-formed JSON in UTF-8.
    """
    # The common list, [12, 34, 56], needs no object for any of its numbers: well-formed, of digits, commas and spaces only,
    # not empty, no number of more than 18 digits.
    shape = array.translate(_DIGITS_AS_ZEROS, b" ")
    if shape.translate(None, b"0,") == b"[]" and len(shape) > 2 and _TOO_LONG not in shape:
        return IntegerIds(np.fromstring(array[1:-1], np.int64, sep=","))
    try:
        if array.lstrip(b"[ \t\r\n")[:1] == b'"':
            return printable_ids(_decode_texts(array))
        integers = _decode_integers(array)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return IntegerIds(np.array(integers, np.int64)) if integers else None


def printable_ids(ids: Sequence[str]) -> tuple[str, ...]:
    """The ids, all looked at in one go.

    Raises:
        ValueError: one is empty, longer than 256 bytes of UTF-8, or holds control or invisible characters.
    """
    joined = "".join(ids)
    if not joined.isprintable() or not all(ids):
        raise ValueError("an id is empty or not printable")
    length = len if joined.isascii() else _utf8_length
    if max(map(length, ids), default=0) > MAX_ID_BYTES:
        raise ValueError("an id is too long")
    return tuple(ids)


def _utf8_length(text: str) -> int:
    return len(text.encode("utf-8"))


def id_texts(ids: Sequence[int | str]) -> tuple[str, ...] | None:
    """The canonical texts of decoded ids, or None where they are mixed or one is not an id."""
    kinds = set(map(type, ids))
    if kinds <= {str}:
        try:
            return printable_ids(ids)  # type: ignore[arg-type]  # all are texts
        except ValueError:
            return None
    if kinds != {int} or max(ids) > INT64_MAX or min(ids) < INT64_MIN:  # type: ignore[operator]  # all are integers
        return None
    return tuple(map(str, ids))
