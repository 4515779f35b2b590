"""Which bucket a unit falls into: one pure function, reproducible in any language (``tests/golden/bucketing``).

``bucket_of(unit_id, salt, num_buckets) = int(md5(utf8(salt + ":" + unit_id)).hexdigest(), 16) % num_buckets``. An empty salt
adds no colon: the hash is of the unit id alone, so that ``bucket_of(user_id, "", 100) < 10`` is the plain split
``int(md5(str(user_id)).hexdigest(), 16) % 100 < 10``. All 128 bits are used, so the modulo's bias is below 2**-100.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import md5

from service.experiments.errors import DrawInvalidError, UnitIdInvalidError


def canonical_unit_id(unit_id: str | int) -> str:
    """The text that is hashed: a string as it is, an integer as its decimal digits (``42`` and ``"42"`` are one unit).

    Nothing is trimmed, case-folded or normalized: ids that differ in any code point are different units.

    Raises:
        UnitIdInvalidError: empty, neither text nor an integer (``True`` is not 1), or beyond Python's digit limit.
    """
    if isinstance(unit_id, str):
        if not unit_id:
            raise UnitIdInvalidError("the unit id is empty; every unit without an id would share one bucket")
        return unit_id
    if isinstance(unit_id, bool) or not isinstance(unit_id, int):
        raise UnitIdInvalidError(f"the unit id must be text or an integer, not {type(unit_id).__name__}")
    try:
        return int.__repr__(unit_id)
    except ValueError:
        raise UnitIdInvalidError("the unit id is an integer of too many digits; send it as text") from None


def bucket_of(unit_id: str | int, salt: str, num_buckets: int) -> int:
    """The bucket of a unit in one draw, in ``[0, num_buckets)``. Draws of different salts are independent.

    Raises:
        UnitIdInvalidError: see ``canonical_unit_id``; also a lone surrogate, which UTF-8 cannot write.
        DrawInvalidError: the salt has no UTF-8 form, or ``num_buckets`` is not a positive integer.
    """
    text = canonical_unit_id(unit_id)
    draw = prepared_draw(salt, num_buckets)
    return draw(hashed_unit_id(text))


def hashed_unit_id(unit_id: str | int) -> bytes:
    """The bytes of a unit id that a prepared draw takes.

    Raises:
        UnitIdInvalidError: see ``canonical_unit_id``; also a lone surrogate, which UTF-8 cannot write.
    """
    try:
        return canonical_unit_id(unit_id).encode("utf-8")
    except UnicodeEncodeError:
        raise UnitIdInvalidError("the unit id holds a lone surrogate, which UTF-8 cannot write") from None


def prepared_draw(salt: str, num_buckets: int) -> Callable[[bytes], int]:
    """``bucket_of`` for one salt, prepared: from ``hashed_unit_id`` to the bucket. The salt is hashed once, here.

    Raises:
        DrawInvalidError: the salt has no UTF-8 form, or ``num_buckets`` is not a positive integer.
    """
    if type(num_buckets) is not int or num_buckets < 1:
        raise DrawInvalidError("num_buckets must be an integer of at least 1")
    try:
        salted = md5(f"{salt}:".encode() if salt else b"", usedforsecurity=False)
    except UnicodeEncodeError:
        raise DrawInvalidError("the salt holds a lone surrogate, which UTF-8 cannot write") from None

    def bucket(unit: bytes) -> int:
        hashed = salted.copy()
        hashed.update(unit)
        return int.from_bytes(hashed.digest(), "big") % num_buckets

    return bucket
