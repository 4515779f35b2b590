"""What a value in the store looks like: compact, self-describing msgpack arrays.

========  ==================================================================
features  ``[schema, owner, event_time, written_at, {field name: raw value}]``
history   ``[schema, owner, version, written_at, [item id], [event time]]``
========  ==================================================================

``owner`` is the id of the user or item the record belongs to; a reader passes the id it asked for, so that a record that
came to the wrong place is never used. Event times are in the unit of the interactions table's ``time`` column (Unix seconds
for date-times); ``written_at`` is always Unix seconds of the writer's clock, and tells a reader the record's age. A history
is ordered by event time, oldest first; ``items`` and ``times`` are equally long.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

import msgspec

from feature_store.encoding.values import RawValue
from feature_store.errors import OwnerMismatchError, RecordCorruptError, RecordRefusedError, RecordTooLargeError

SCHEMA = 1
MAX_FEATURE_BYTES = 64 * 1024
MAX_HISTORY_BYTES = 512 * 1024

RecordT = TypeVar("RecordT")
# The bounds refuse NaN and infinities in the decoder itself, at no cost.
Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
StoredValue = str | int | Finite | bool | list[str | int] | None


class FeatureRecord(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
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


_encoder = msgspec.msgpack.Encoder()
_feature_decoder = msgspec.msgpack.Decoder(FeatureRecord)
_history_decoder = msgspec.msgpack.Decoder(HistoryRecord)


def feature_record(
    owner: str, event_time: float, values: Mapping[str, RawValue], *, written_at: float | None = None
) -> FeatureRecord:
    """A record of the current schema from any mapping of raw values, written now; sequences become lists."""
    stored = {name: value if isinstance(value, str) else _as_stored(value) for name, value in values.items()}
    return FeatureRecord(SCHEMA, owner, event_time, time.time() if written_at is None else written_at, stored)


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
    """The bytes of a feature record.

    Raises:
        RecordRefusedError: a value outside ``StoredValue``, not finite or too large, named by owner and field.
    """
    for name, value in record.values.items():
        problem = _value_problem(value)
        if problem:
            raise RecordRefusedError(f"features of {record.owner!r}, field {name!r}: {problem}")
    if not math.isfinite(record.event_time) or not math.isfinite(record.written_at):
        raise RecordRefusedError(f"features of {record.owner!r}: event_time and written_at must be finite")
    return _encode(record, f"features of {record.owner!r}", max_bytes)


def encode_history(record: HistoryRecord, *, max_bytes: int = MAX_HISTORY_BYTES) -> bytes:
    """The bytes of a history.

    Raises:
        RecordRefusedError: a rule of ``HistoryRecord`` is broken, or the record is too large.
    """
    problem = _history_problem(record)
    if problem:
        raise RecordRefusedError(f"history of {record.owner!r}: {problem}")
    return _encode(record, f"history of {record.owner!r}", max_bytes)


def decode_features(data: bytes, owner: str, *, max_bytes: int = MAX_FEATURE_BYTES) -> FeatureRecord:
    """Read a feature record that must belong to ``owner``.

    Raises:
        RecordTooLargeError: more than ``max_bytes``.
        RecordCorruptError: not a feature record of this schema, or a number that is not finite.
        OwnerMismatchError: another owner's record.
    """
    record = _decode(_feature_decoder, data, max_bytes)
    _check_head(record.schema, record.owner, owner)
    return record


def decode_history(data: bytes, owner: str, *, max_bytes: int = MAX_HISTORY_BYTES) -> HistoryRecord:
    """Read a history that must belong to ``owner``.

    Raises:
        RecordTooLargeError: more than ``max_bytes``.
        RecordCorruptError: not a history of this schema, or breaking its rules.
        OwnerMismatchError: another owner's history.
    """
    record = _decode(_history_decoder, data, max_bytes)
    _check_head(record.schema, record.owner, owner)
    problem = _history_problem(record)
    if problem:
        raise RecordCorruptError(problem)
    return record


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
    times = record.times
    if len(record.items) != len(times):
        return f"{len(record.items)} items but {len(times)} times"
    if record.version < len(times):
        return f"version {record.version} but {len(times)} events"
    if not math.isfinite(record.written_at) or not all(map(math.isfinite, times)):
        return "a time is not finite"
    if times != sorted(times):
        return "times fall; events must be ordered, oldest first"
    return None


def _encode(record: FeatureRecord | HistoryRecord, what: str, max_bytes: int) -> bytes:
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


def _check_head(schema: int, found: str, owner: str) -> None:
    if schema != SCHEMA:
        raise RecordCorruptError(f"schema {schema}, not {SCHEMA}")
    if found != owner:
        raise OwnerMismatchError("the record belongs to another owner")
