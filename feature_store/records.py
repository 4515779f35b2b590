"""What a value in the store looks like: compact, self-describing msgpack arrays.

========  ============================================================================
features  ``[2, owner, event_time, written_at, {field name: raw value}, checksum]``
history   seal, ``[1, owner, version, written_at, [item id], [event time]]``
========  ============================================================================

``owner`` is the id of the user or item the record belongs to; a reader passes the id it asked for, so that a record that
came to the wrong place is never used. Event times are in the unit of the interactions table's ``time`` column (Unix seconds
for date-times); ``written_at`` is always Unix seconds of the writer's clock, and tells a reader the record's age. A history
is ordered by event time, oldest first; ``items`` and ``times`` are equally long.

The checksum of features is the CRC-32 of all bytes before its own four, which are the last, least byte first; to msgpack they
are a 32-bit integer. Without it, a bit that flips inside a text makes another sound value. Features of schema 1, written before
there was one, end at the values and are still read. Histories are written by the server's own scripts, too, which have no CRC:
the seal before them is the first eight hex digits of the SHA-1 of what follows. One without it is still read.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

import msgspec

from feature_store.encoding.values import RawValue
from feature_store.errors import OwnerMismatchError, RecordCorruptError, RecordRefusedError, RecordTooLargeError

SCHEMA = 1
"""Of a history; a feature record of this schema has no checksum."""
FEATURE_SCHEMA = 2
MAX_FEATURE_BYTES = 64 * 1024
MAX_HISTORY_BYTES = 512 * 1024

RecordT = TypeVar("RecordT")
# The bounds refuse NaN and infinities in the decoder itself, at no cost.
Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
StoredValue = str | int | Finite | bool | list[str | int] | None


# Elements behind the declared ones are passed over: the checksum is looked at before, in the bytes.
class FeatureRecord(msgspec.Struct, array_like=True, frozen=True):
    """The features of one user or item as of ``event_time``; ``values`` is keyed by field name."""

    schema: int
    owner: str
    event_time: Finite
    written_at: Finite
    values: dict[str, StoredValue]


class HistoryRecord(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The newest events of one user, oldest first.

    ``version`` counts the events that ever entered the history, those pushed out since included: it only grows, and it
    grows with every event. ``written_at`` is when it last entered the store.
    """

    schema: int
    owner: str
    version: int
    written_at: Finite
    items: list[str]
    times: list[Finite]


_ARRAY_OF_5, _ARRAY_OF_6 = 0x95, 0x96
"""The first byte of a feature record of schema 1 and of schema 2."""
_CHECKSUM_PLACE = 0xFFFFFFFF
_SOUND = 0x2144DF1C
"""The CRC-32 of any bytes with their own CRC-32 behind them, least byte first."""
SEAL_BYTES = 8
_FIRST_NO_ASCII = 0x80
_NOT_THE_OWNER = "the record belongs to another owner"

_encoder = msgspec.msgpack.Encoder()
_feature_decoder = msgspec.msgpack.Decoder(FeatureRecord)
_history_decoder = msgspec.msgpack.Decoder(HistoryRecord)


def feature_record(
    owner: str, event_time: float, values: Mapping[str, RawValue], *, written_at: float | None = None
) -> FeatureRecord:
    """A record of the current schema from any mapping of raw values, written now; sequences become lists."""
    stored = {name: value if isinstance(value, str) else _as_stored(value) for name, value in values.items()}
    return FeatureRecord(FEATURE_SCHEMA, owner, event_time, time.time() if written_at is None else written_at, stored)


def history_record(
    owner: str,
    items: Iterable[str],
    times: Iterable[float],
    *,
    version: int | None = None,
    written_at: float | None = None,
) -> HistoryRecord:
    """A history of the current schema from events, oldest first; without a ``version`` these are all there ever were."""
    kept = list(times)
    written = time.time() if written_at is None else written_at
    return HistoryRecord(SCHEMA, owner, len(kept) if version is None else version, written, list(items), kept)


def encode_features(record: FeatureRecord, *, max_bytes: int = MAX_FEATURE_BYTES) -> bytes:
    """The bytes of a feature record, always of the current schema.

    Raises:
        RecordRefusedError: a value outside ``StoredValue``, not finite or too large, named by owner and field.
    """
    for name, value in record.values.items():
        problem = _value_problem(value)
        if problem:
            raise RecordRefusedError(f"features of {record.owner!r}, field {name!r}: {problem}")
    if not math.isfinite(record.event_time) or not math.isfinite(record.written_at):
        raise RecordRefusedError(f"features of {record.owner!r}: event_time and written_at must be finite")
    fields = (FEATURE_SCHEMA, record.owner, record.event_time, record.written_at, record.values, _CHECKSUM_PLACE)
    data = _encode(fields, f"features of {record.owner!r}", max_bytes)
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def encode_history(record: HistoryRecord, *, max_bytes: int = MAX_HISTORY_BYTES) -> bytes:
    """The bytes of a history.

    Raises:
        RecordRefusedError: a rule of ``HistoryRecord`` is broken, or the record is too large.
    """
    problem = _history_problem(record)
    if problem:
        raise RecordRefusedError(f"history of {record.owner!r}: {problem}")
    return sealed(_encode(record, f"history of {record.owner!r}", max_bytes))


def decode_features(data: bytes, owner: str, *, max_bytes: int = MAX_FEATURE_BYTES) -> FeatureRecord:
    """Read a feature record that must belong to ``owner``.

    Raises:
        RecordTooLargeError: more than ``max_bytes``.
        RecordCorruptError: not a feature record of a known schema, changed since it was written, or a number that is not
            finite.
        OwnerMismatchError: another owner's record.
    """
    record = _decode(_feature_decoder, data, max_bytes)
    # What this catches must not pass for a record of somebody else: that would cost every connection.
    if data[0] == _ARRAY_OF_6 and record.schema == FEATURE_SCHEMA:
        if zlib.crc32(data) != _SOUND:
            raise RecordCorruptError("the checksum is wrong")
    elif data[0] != _ARRAY_OF_5 or record.schema != SCHEMA:
        raise RecordCorruptError(f"no feature record of schema {SCHEMA} or {FEATURE_SCHEMA}")
    if record.owner != owner:
        raise OwnerMismatchError(_NOT_THE_OWNER)
    return record


def decode_history(data: bytes, owner: str, *, max_bytes: int = MAX_HISTORY_BYTES) -> HistoryRecord:
    """Read a history that must belong to ``owner``.

    Raises:
        RecordTooLargeError: more than ``max_bytes``.
        RecordCorruptError: not a history of this schema, or breaking its rules.
        OwnerMismatchError: another owner's history.
    """
    record = _decode(_history_decoder, unsealed(data), max_bytes)
    if record.schema != SCHEMA:
        raise RecordCorruptError(f"history of schema {record.schema}, not {SCHEMA}")
    if record.owner != owner:
        raise OwnerMismatchError(_NOT_THE_OWNER)
    problem = _order_problem(record)  # the decoder itself lets no number through that is not finite
    if problem:
        raise RecordCorruptError(problem)
    return record


def sealed(body: bytes) -> bytes:
    """Bytes behind their seal."""
    return _seal(body) + body


def unsealed(data: bytes) -> bytes:
    """The bytes behind a seal; bytes that begin as a msgpack array, not as a seal, are what they are.

    Raises:
        RecordCorruptError: changed since they were sealed.
    """
    if not data or data[0] >= _FIRST_NO_ASCII:
        return data
    body = data[SEAL_BYTES:]
    if data[:SEAL_BYTES] != _seal(body):
        raise RecordCorruptError("the checksum is wrong")
    return body


def _seal(body: bytes) -> bytes:
    return hashlib.sha1(body, usedforsecurity=False).hexdigest()[:SEAL_BYTES].encode()


def _as_stored(value: RawValue) -> StoredValue:
    return list(value) if isinstance(value, tuple | list) else value  # type: ignore[return-value]


def _value_problem(value: object) -> str | None:
    """Why a value must not be stored, or None."""
    if value is None or isinstance(value, str | bool | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else "a number must be finite"
    if isinstance(value, list):
        wrong = next((type(part).__name__ for part in value if type(part) is bool or not isinstance(part, str | int)), None)
        return None if wrong is None else f"a list may hold text and integers, not {wrong}"
    return f"text, a number, a truth value or a list is needed, not {type(value).__name__}"


def _history_problem(record: HistoryRecord) -> str | None:
    """Which rule a history breaks, or None."""
    if not math.isfinite(record.written_at) or not all(map(math.isfinite, record.times)):
        return "a time is not finite"
    return _order_problem(record)


def _order_problem(record: HistoryRecord) -> str | None:
    """Which rule a history of finite times breaks, or None."""
    times = record.times
    if len(record.items) != len(times):
        return f"{len(record.items)} items but {len(times)} times"
    if record.version < len(times):
        return f"version {record.version} but {len(times)} events"
    if times != sorted(times):
        return "times fall; events must be ordered, oldest first"
    return None


def _encode(record: tuple[object, ...] | HistoryRecord, what: str, max_bytes: int) -> bytes:
    try:
        data = _encoder.encode(record)
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordRefusedError(f"{what}: {error}") from None
    if len(data) > max_bytes:
        raise RecordRefusedError(f"{what}: {len(data)} bytes, more than the {max_bytes} that readers accept")
    return data


def _decode(decoder: msgspec.msgpack.Decoder[RecordT], data: bytes, max_bytes: int) -> RecordT:
    if len(data) > max_bytes:
        raise RecordTooLargeError(f"{len(data)} bytes, more than the {max_bytes} accepted")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordCorruptError(str(error)) from None
