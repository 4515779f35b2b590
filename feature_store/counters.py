"""Counters of a user's or an item's live events, as the server-side step writes them.

Behind a seal (see ``records``): ``[schema, owner, [half-life], {event type: [count, time, decayed...]}]``. ``count`` is the
total; ``decayed`` has, per half-life h, the sum over all events of 2^(-age / h) as of ``time``, the newest event's. Times and
half-lives are in the unit of the interactions table's time column.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from feature_store.errors import OwnerMismatchError, RecordCorruptError, RecordTooLargeError
from feature_store.records import SCHEMA, Finite, unsealed

MAX_COUNTER_BYTES = 64 * 1024


class CounterRecord(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The stored form."""

    schema: int
    owner: str
    half_lives: list[Finite]
    types: dict[str, list[Finite]]


@dataclass(frozen=True, slots=True)
class EventCount:
    """Events of one type: all of them, the newest one's time, and per half-life the decayed count as of some moment."""

    count: int
    newest: float
    decayed: dict[float, float]

    def rate(self, half_life: float) -> float:
        """Events per unit of time, averaged with this half-life: decayed count x ln 2 / half-life."""
        return self.decayed[half_life] * 0.6931471805599453 / half_life


_decoder = msgspec.msgpack.Decoder(CounterRecord)


def decode_counters(data: bytes, owner: str) -> CounterRecord:
    """Read counters that must belong to ``owner``.

    Raises:
        RecordTooLargeError, RecordCorruptError, OwnerMismatchError: as for the other records.
    """
    if len(data) > MAX_COUNTER_BYTES:
        raise RecordTooLargeError(f"{len(data)} bytes, more than the {MAX_COUNTER_BYTES} accepted")
    try:
        record = _decoder.decode(unsealed(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordCorruptError(str(error)) from None
    if record.schema != SCHEMA:
        raise RecordCorruptError(f"schema {record.schema}, not {SCHEMA}")
    if record.owner != owner:
        raise OwnerMismatchError("the counters belong to another owner")
    if (
        any(len(entry) != 2 + len(record.half_lives) for entry in record.types.values())
        or min(record.half_lives, default=1) <= 0
    ):
        raise RecordCorruptError("an entry does not have a count, a time and a sum per half-life")
    return record


def counts_at(record: CounterRecord, moment: float) -> dict[str, EventCount]:
    """What the counters say at a moment: decayed sums go on decaying until then, or until the newest event if that is later."""
    counts = {}
    for kind, (count, newest, *decayed) in record.types.items():
        ahead = max(0.0, moment - newest)
        now = {h: each * 2 ** (-ahead / h) for h, each in zip(record.half_lives, decayed, strict=True)}
        counts[kind] = EventCount(int(count), newest, now)
    return counts
