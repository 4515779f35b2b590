"""The books after a run: what the log, the histories and the counters must say, worked out from what was sent. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.chaos.made_events import HISTORY_TYPE, Ledger, MadeEvent

_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the event log: the event, its place, and the version of the history that it made (``entered``) or met.

    A click that was older than all of a full history does not enter.
    """

    number: int
    event: MadeEvent
    version: int
    entered: bool


@dataclass(frozen=True, slots=True)
class FoundHistory:
    """One user's history as the store has it, oldest first."""

    version: int
    items: list[str]
    times: list[float]


@dataclass(frozen=True, slots=True)
class Found:
    """All that the store says: the log in order, histories by user, counts by user and type, and by item and type."""

    log: list[LogEntry]
    histories: Mapping[str, FoundHistory]
    counts: Mapping[str, Mapping[str, int]]
    item_counts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Books:
    """Figures, and every way in which the books do not balance."""

    figures: dict[str, Any]
    breaches: list[str]


def balance(ledger: Ledger, found: Found, history_length: int) -> Books:
    """Compare. Every acknowledged event is there once; one that was not acknowledged is there once or not at all."""
    times_seen = Counter(entry.event.event_id for entry in found.log)
    wrong = {
        "lost": sorted(ledger.acknowledged - times_seen.keys()),
        "twice": sorted(event_id for event_id, times in times_seen.items() if times > 1),
        "never_sent": sorted(times_seen.keys() - ledger.sent.keys()),
        "altered": _altered(ledger, found.log),
        "numbers_repeated": _repeated(entry.number for entry in found.log),
        "histories_wrong": _wrong_histories(found, history_length),
        "versions_wrong": _wrong_versions(found),
        "counters_wrong": _wrong_counts(found.counts, ((entry.event.user_id, entry.event.type) for entry in found.log)),
        "item_counters_wrong": _wrong_counts(
            found.item_counts, ((entry.event.item_id, entry.event.type) for entry in found.log)
        ),
    }
    figures = {
        "sent": len(ledger.sent),
        "acknowledged": len(ledger.acknowledged),
        "in_the_log": len(found.log),
        "applied_though_unacknowledged": len((times_seen.keys() & ledger.sent.keys()) - ledger.acknowledged),
        "users": len(found.histories),
        **{name: len(examples) for name, examples in wrong.items()},
    }
    breaches = [f"{name}: {len(bad)}, such as {', '.join(bad[:_EXAMPLES])}" for name, bad in wrong.items() if bad]
    return Books(figures, breaches)


def expected_history(events: Sequence[MadeEvent], length: int) -> tuple[list[str], list[float]]:
    """Items and times of the newest ``length`` of the clicks among one user's events, oldest first."""
    clicks = [event for event in events if event.type == HISTORY_TYPE]
    newest = sorted(clicks, key=lambda event: event.time)[-length:]
    return [event.item_id for event in newest], [event.time for event in newest]


def _altered(ledger: Ledger, log: Sequence[LogEntry]) -> list[str]:
    return [entry.event.event_id for entry in log if ledger.sent.get(entry.event.event_id, entry.event) != entry.event]


def _repeated(values: Any) -> list[str]:
    return [str(value) for value, times in Counter(values).items() if times > 1]


def _entered(found: Found) -> dict[str, list[LogEntry]]:
    entered: dict[str, list[LogEntry]] = defaultdict(list)
    for entry in found.log:
        if entry.entered:
            entered[entry.event.user_id].append(entry)
    return entered


def _wrong_histories(found: Found, length: int) -> list[str]:
    """Users whose history is not the newest of all their clicks that were applied."""
    applied: dict[str, list[MadeEvent]] = defaultdict(list)
    for entry in found.log:
        applied[entry.event.user_id].append(entry.event)
    wrong = []
    for user in sorted(applied.keys() | found.histories.keys()):
        history = found.histories.get(user, FoundHistory(0, [], []))
        if (history.items, history.times) != expected_history(applied[user], length):
            wrong.append(user)
    return wrong


def _wrong_versions(found: Found) -> list[str]:
    """Users whose version is not the number of events that entered, or whose events did not each get one of their own."""
    entered = _entered(found)
    wrong = []
    for user in sorted(entered.keys() | found.histories.keys()):
        history = found.histories.get(user)
        version = history.version if history is not None else 0
        if version != len(entered[user]) or {entry.version for entry in entered[user]} != set(range(1, version + 1)):
            wrong.append(user)
    return wrong


def _wrong_counts(counts: Mapping[str, Mapping[str, int]], logged: Iterable[tuple[str, str]]) -> list[str]:
    """Owners whose counters are not what the log holds of them; ``logged``: owner and type of each event."""
    expected: dict[str, Counter[str]] = defaultdict(Counter)
    for owner, kind in logged:
        expected[owner][kind] += 1
    return [owner for owner in sorted(expected.keys() | counts.keys()) if dict(counts.get(owner, {})) != dict(expected[owner])]
