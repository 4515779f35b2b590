"""The event log as it is read back: entries in order, numbered without a gap, or every gap named.

An entry of the stream has the fields ``n`` (its running number, from 1), ``v`` (the history's version after the event), ``h``
("1" where the event entered the history) and ``e`` (the event's bytes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feature_store.errors import RecordCorruptError
from feature_store.events.event import LoggedEvent, decode_event

LOG_START = "0-0"
"""Before every entry."""
LOG_ID = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)
_NUMBER = re.compile(rb"\d{1,19}", re.ASCII)
_GAPS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry: its id in the stream, its running number (0 if unreadable) and its event (None if unreadable)."""

    id: str
    number: int
    logged: LoggedEvent | None


@dataclass(frozen=True, slots=True)
class LogReading:
    """Entries after some place of the log, in its order.

    ``before`` is the number of the entry at that place: 0 at the start of the log, None where the entry is gone. ``ever``
    counts the events that had entered the log before it was read; None where that is not known.
    """

    entries: Sequence[LogEntry]
    before: int | None
    ever: int | None

    @property
    def last_id(self) -> str | None:
        """Where the next reading goes on; None without entries."""
        return self.entries[-1].id if self.entries else None

    def gaps(self) -> list[str]:
        """What is missing or cannot be read, one line each; the first 20 and how many more there are."""
        found: list[str] = []
        last = self.before
        if last is None:
            found.append("the entry to go on from is no longer in the log: whether others went with it cannot be told")
        for entry in self.entries:
            if entry.logged is None:
                found.append(f"entry {entry.id} cannot be read")
            if not entry.number:
                continue
            if last is not None and entry.number != last + 1:
                found.append(_step_text(last, entry))
            last = entry.number
        if last is not None and self.ever is not None and self.ever > last:
            found.append(f"events {last + 1} to {self.ever} are not in the log")
        more = len(found) - _GAPS_SHOWN
        return [*found[:_GAPS_SHOWN], f"{more:,} more gaps"] if more > 0 else found


def read_entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> LogEntry:
    """An entry of the stream; whatever its fields hold, it is told and nothing is raised."""
    number = _whole(fields.get(b"n"))
    version, entered, data = _whole(fields.get(b"v")), fields.get(b"h"), fields.get(b"e")
    logged = None
    if number and version is not None and entered in (b"0", b"1") and data is not None:
        try:
            event = decode_event(data)
        except RecordCorruptError:
            event = None
        if event is not None and math.isfinite(event.time) and (event.value is None or math.isfinite(event.value)):
            logged = LoggedEvent(number, event, version, entered == b"1")
    return LogEntry(entry_id.decode("ascii", "replace"), number or 0, logged)


def first_of_each(entries: Sequence[LogEntry]) -> list[LoggedEvent]:
    """The events in the log's order, each once: on a cluster one that is applied again is logged again."""
    seen: dict[tuple[str, str], LoggedEvent] = {}
    for entry in entries:
        if entry.logged is not None:
            seen.setdefault((entry.logged.event.user_id, entry.logged.event.event_id), entry.logged)
    return list(seen.values())


def relogged_users(entries: Sequence[LogEntry]) -> set[str]:
    """Users of whom an event was logged again with another outcome: the store had lost what it knew, or forgotten the id."""
    seen: dict[tuple[str, str], tuple[int, bool]] = {}
    users: set[str] = set()
    for entry in entries:
        if (logged := entry.logged) is not None:
            outcome = (logged.version, logged.entered)
            if seen.setdefault((logged.event.user_id, logged.event.event_id), outcome) != outcome:
                users.add(logged.event.user_id)
    return users


def _step_text(last: int, entry: LogEntry) -> str:
    if entry.number <= last:
        return f"entry {entry.id} is number {entry.number} after number {last}: the log began anew"
    missing = f"event {last + 1} is" if entry.number == last + 2 else f"events {last + 1} to {entry.number - 1} are"
    return f"{missing} missing before entry {entry.id}"


def _whole(text: bytes | None) -> int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None
