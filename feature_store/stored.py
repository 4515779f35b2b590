"""One round trip's reply, value by value: what can be used, what is absent, what is at fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from feature_store.errors import RecordError
from feature_store.records import FeatureRecord, HistoryRecord, decode_features, decode_history

Kind = Literal["user", "history", "item"]
RecordT = TypeVar("RecordT")

OWNER_MISMATCH = "owner_mismatch"


@dataclass(frozen=True, slots=True)
class StoredRecords:
    """What the store holds of one user and some items.

    ``items`` maps an id to its record, or to None where the store certainly has none. An id is left out where nothing
    certain is known: its value is at fault, or another value of the same reply belonged to somebody else, which makes
    every absence in that reply doubtful. ``faults`` holds ``<user|history|item>_<kind of RecordError>``, one per value.
    """

    user: FeatureRecord | None
    history: HistoryRecord | None
    items: Mapping[str, FeatureRecord | None]
    faults: tuple[str, ...] = ()

    @property
    def owner_mismatch(self) -> bool:
        """Whether some value belonged to another owner than the one asked for."""
        return any(fault.endswith(OWNER_MISMATCH) for fault in self.faults)


def read_reply(user_id: str, item_ids: Sequence[str], values: Sequence[bytes | None]) -> StoredRecords:
    """Decode the values of a user's features, a user's history and the items, in this order.

    Args:
        values: ``2 + len(item_ids)`` values; None where the store has no value.
    """
    faults: list[str] = []
    user, _ = _read("user", values[0], user_id, decode_features, faults)
    history, _ = _read("history", values[1], user_id, decode_history, faults)
    items: dict[str, FeatureRecord | None] = {}
    for item_id, value in zip(item_ids, values[2:], strict=True):
        record, certain = _read("item", value, item_id, decode_features, faults)
        if certain:
            items[item_id] = record
    stored = StoredRecords(user, history, items, tuple(faults))
    if stored.owner_mismatch:
        present = {item_id: record for item_id, record in items.items() if record is not None}
        return StoredRecords(user, history, present, stored.faults)
    return stored


def _read(
    kind: Kind, value: bytes | None, owner: str, decode: Callable[[bytes, str], RecordT], faults: list[str]
) -> tuple[RecordT | None, bool]:
    """The record or None, and whether that is certain; a fault is appended to ``faults``."""
    if value is None:
        return None, True
    try:
        return decode(value, owner), True
    except RecordError as error:
        faults.append(f"{kind}_{error.kind}")
        return None, False
