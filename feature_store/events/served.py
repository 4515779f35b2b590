"""The histories that rows were served with, rebuilt from the versions that the answers told."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from feature_store.events.event import LoggedEvent


@dataclass(frozen=True, slots=True)
class BaseHistory:
    """A user's history as it was materialized: items and times, oldest first, equally long."""

    items: Sequence[str] = ()
    times: Sequence[float] = ()


@dataclass(slots=True)
class _User:
    entered: list[LoggedEvent] = field(default_factory=list)
    versions: set[int] = field(default_factory=set)


def served_histories(
    events: Iterable[LoggedEvent], asked: Iterable[tuple[str, int]], base: Mapping[str, BaseHistory], length: int
) -> dict[tuple[str, int], list[str]]:
    """For each user and version asked for: the items of the history at that version, oldest first.

    It is the newest ``length`` events by time (of one moment: in the order they came, those of the base first) among the base
    and the events that entered with that version or a lower one.
    """
    users: defaultdict[str, _User] = defaultdict(_User)
    for user_id, version in asked:
        users[user_id].versions.add(version)
    for logged in events:
        if logged.entered and logged.event.user_id in users:
            users[logged.event.user_id].entered.append(logged)
    histories: dict[tuple[str, int], list[str]] = {}
    for user_id, user in users.items():
        for version, items in _at_versions(user, base.get(user_id, BaseHistory()), length).items():
            histories[user_id, version] = items
    return histories


def _at_versions(user: _User, base: BaseHistory, length: int) -> dict[int, list[str]]:
    """One pass over a user's events, however many versions are asked for."""
    # The second part is the order of arrival: the base's places count up to -1, versions from 0.
    kept = [
        (time, place - len(base.items), item) for place, (item, time) in enumerate(zip(base.items, base.times, strict=True))
    ]
    kept = kept[-length:]
    entered = iter(sorted(user.entered, key=lambda logged: logged.version))
    upcoming = next(entered, None)
    histories = {}
    for version in sorted(user.versions):
        while upcoming is not None and upcoming.version <= version:
            insort(kept, (upcoming.event.time, upcoming.version, upcoming.event.item_id))
            if len(kept) > length:
                del kept[0]
            upcoming = next(entered, None)
        histories[version] = [item for _, _, item in kept]
    return histories
