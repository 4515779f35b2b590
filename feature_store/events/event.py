"""One live event: as it is kept in the spool, applied to the store, and written into the event log."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from feature_store.errors import RecordCorruptError

SCHEMA = 1
_DIGEST_BYTES = 8

ContextValue = str | int | float | bool | list[str | int] | None


class Event(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """An event that was validated.

    ``time`` is in the unit of the interactions table's time column, ``received_at`` in Unix seconds of the server's clock.
    ``history_version`` is the version of the history that the user was shown the item with, as the answer told it; ``context``
    holds the values of the row's context fields. Both matter to training only.
    """

    schema: int
    event_id: str
    user_id: str
    item_id: str
    type: str
    time: float
    received_at: float
    value: float | None = None
    request_id: str | None = None
    history_version: int | None = None
    context: dict[str, ContextValue] = {}

    @property
    def digest(self) -> bytes:
        """Eight bytes that stand for the event's id among its user's ids."""
        return hashlib.blake2b(self.event_id.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


class LoggedEvent(msgspec.Struct, frozen=True):
    """An event as the log has it: the history's ``version`` once it was applied, and whether it ``entered`` the history."""

    number: int
    event: Event
    version: int
    entered: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)


def new_event(
    *,
    event_id: str,
    user_id: str,
    item_id: str,
    type: str,  # noqa: A002 - the field's name
    time: float,
    received_at: float,
    value: float | None = None,
    request_id: str | None = None,
    history_version: int | None = None,
    context: Mapping[str, ContextValue] | None = None,
) -> Event:
    """An event of the current schema."""
    return Event(
        SCHEMA, event_id, user_id, item_id, type, time, received_at, value, request_id, history_version, dict(context or {})
    )


def encode_event(event: Event) -> bytes:
    """The bytes of an event."""
    return _encoder.encode(event)


def decode_event(data: bytes) -> Event:
    """An event from its bytes.

    Raises:
        RecordCorruptError: these are no event's bytes, or of another schema.
    """
    try:
        event = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordCorruptError(str(error)) from None
    if event.schema != SCHEMA:
        raise RecordCorruptError(f"event schema {event.schema}, not {SCHEMA}")
    return event
