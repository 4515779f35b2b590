"""One round trip's reply, value by value: what can be used, what is absent, what is at fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from feature_store.errors import OwnerMismatchError, RecordError, RecordWrongTypeError
from feature_store.records import FeatureRecord, HistoryRecord, decode_features, decode_history

Kind = Literal["user", "history", "item"]
RecordT = TypeVar("RecordT")
ReadValue = bytes | RecordWrongTypeError | None
"""A key's bytes, None where there is no key, or the error that says that it holds no bytes."""

OWNER_MISMATCH = "owner_mismatch"


@dataclass(frozen=True, slots=True)
class StoredRecords:
    """What the store holds of one user and some items.

    ``items`` maps an id to its record, or to None where the store certainly has none. An id is left out where nothing
    certain is known: its value is at fault, or the replies were ``mixed_up``, which makes every absence among them doubtful.
    An item under which another Redis type than a string is stored counts as one that the store does not have; a user's
    features or history of such a type are at fault. ``faults`` holds ``<user|history|item>_<kind of RecordError>``, one per
    value.
    """

    user: FeatureRecord | None
    history: HistoryRecord | None
    items: Mapping[str, FeatureRecord | None]
    faults: tuple[str, ...] = ()
    mixed_up: bool = False
    """Some value belonged to another owner than the one asked for, or features and history came in each other's place; or
    that happened to another question of the same exchange, which makes this one's absences doubtful, too: those of the user's
    own records are told as faults."""


def read_reply(user_id: str, item_ids: Sequence[str], values: Sequence[ReadValue]) -> StoredRecords:
    """Decode the values of a user's features, a user's history and the items, in this order.

    Args:
        values: ``2 + len(item_ids)`` values.
    """
    faults: list[str] = []
    user, _ = _read("user", values[0], user_id, decode_features, faults)
    history, _ = _read("history", values[1], user_id, decode_history, faults)
    items: dict[str, FeatureRecord | None] = {}
    for item_id, value in zip(item_ids, values[2:], strict=True) if item_ids else ():
        record, certain = _read("item", value, item_id, decode_features, faults)
        if certain:
            items[item_id] = record
    if not faults:
        return StoredRecords(user, history, items)
    mixed_up = (
        any(fault.endswith(OWNER_MISMATCH) for fault in faults)
        or ("user_corrupt" in faults and _is_record(values[0], user_id, decode_history))
        or ("history_corrupt" in faults and _is_record(values[1], user_id, decode_features))
    )
    if mixed_up:
        items = {item_id: record for item_id, record in items.items() if record is not None}
    return StoredRecords(user, history, items, tuple(faults), mixed_up)


def read_shared_reply(
    asked: Sequence[tuple[str, Sequence[str]]], values: Sequence[ReadValue]
) -> tuple[list[StoredRecords], bool]:
    """Decode the values of several callers' questions that shared one exchange, and whether any of them were mixed up.

    Each caller has the values that its own question's keys brought, checked for its own user and items, and no other. If one
    caller's values were mixed up, every caller's absences are doubtful: the value may have come to another.

    Args:
        asked: user id and item ids of each caller.
        values: features and history of every user, one after another, then every item, in the order of ``asked``.
    """
    answers: list[StoredRecords] = []
    mixed_up = False
    own_at, item_at = 0, 2 * len(asked)
    for user_id, item_ids in asked:
        answer = None if item_ids else _sound_user(user_id, values[own_at], values[own_at + 1])
        if answer is None:
            end = item_at + len(item_ids)
            answer = read_reply(user_id, item_ids, [values[own_at], values[own_at + 1], *values[item_at:end]])
            mixed_up |= answer.mixed_up
            item_at = end
        own_at += 2
        answers.append(answer)
    if mixed_up and len(answers) > 1:
        answers = [answer if answer.mixed_up else _doubted(answer) for answer in answers]
    return answers, mixed_up


def _sound_user(user_id: str, user: ReadValue, history: ReadValue) -> StoredRecords | None:
    """The common case at the least cost: what ``read_reply`` makes of a user's values alone, or None if one is at fault."""
    try:
        return StoredRecords(
            None if user is None else decode_features(_bytes(user), user_id),
            None if history is None else decode_history(_bytes(history), user_id),
            {},
        )
    except RecordError:
        return None


def _bytes(value: bytes | RecordWrongTypeError) -> bytes:
    if isinstance(value, RecordWrongTypeError):
        raise value
    return value


def _doubted(answer: StoredRecords) -> StoredRecords:
    """An answer without its absences: told as faults where the user's own records are concerned, left out among the items."""
    items = {item_id: record for item_id, record in answer.items.items() if record is not None}
    absent = [kind for kind, record in (("user", answer.user), ("history", answer.history)) if record is None]
    told = {fault.partition("_")[0] for fault in answer.faults}
    faults = (*answer.faults, *(f"{kind}_{OWNER_MISMATCH}" for kind in absent if kind not in told))
    return replace(answer, items=items, faults=faults, mixed_up=True)


def _read(
    kind: Kind, value: ReadValue, owner: str, decode: Callable[[bytes, str], RecordT], faults: list[str]
) -> tuple[RecordT | None, bool]:
    """The record or None, and whether that is certain; a fault is appended to ``faults``."""
    if value is None:
        return None, True
    try:
        return decode(_bytes(value), owner), True
    except RecordError as error:
        faults.append(f"{kind}_{error.kind}")
        return None, False


def _is_record(value: ReadValue, owner: str, decode: Callable[[bytes, str], RecordT]) -> bool:
    """Whether the value is a sound record of the kind that ``decode`` reads, whoever its owner is."""
    try:
        return isinstance(value, bytes) and bool(decode(value, owner))
    except OwnerMismatchError:
        return True
    except RecordError:
        return False
