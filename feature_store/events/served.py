"""The histories that rows were served with, rebuilt from the versions that the answers told: exactly, or not at all.

Why a rebuilt history cannot be another than the served one. A version grows by one with each live event that enters, and a
materialization raises it by at least the number of events that only the batch has. So while versions grow by logged events
alone, nothing else has entered. Of a user's log the first event tells the version V before it; where the tables hold exactly V
events beside the logged ones, these are what V counts (tables only ever gain events), and version V + k, if k logged events
entered with V + k or a lower version, is these and those k. Anything else is told as ``Unserved``, and no history is given.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from feature_store.events.event import LoggedEvent


class Unserved(Enum):
    """Why no history is given for a version."""

    TABLES_AHEAD = "the tables hold events newer than the log's first, or more than the store then had, that the log lacks"
    UNACCOUNTED = "tables and log do not account for every event that its version counts, or not for their order"
    VERSION_AHEAD = "its history_version is higher than the log's own at that event, so the client told a wrong one"


@dataclass(frozen=True, slots=True)
class BaseHistory:
    """What the tables hold of one user beside the events that entered live.

    ``items``, ``times`` and ``places`` are its newest events, oldest first, equally long; ``count`` counts all of them. Places
    number all of the user's events in the tables by time; ``logged_places`` has those of the ones that entered live, by item
    and time.
    """

    items: Sequence[str] = ()
    times: Sequence[float] = ()
    places: Sequence[int] = ()
    count: int = 0
    logged_places: Mapping[tuple[str, float], int] = field(default_factory=dict)


@dataclass(slots=True)
class _User:
    first: LoggedEvent | None = None
    entered: list[LoggedEvent] = field(default_factory=list)
    versions: set[int] = field(default_factory=set)

    def take(self, logged: LoggedEvent) -> None:
        if self.first is None or _before(logged) < _before(self.first):
            self.first = logged
        if logged.entered:
            self.entered.append(logged)


def served_histories(
    events: Iterable[LoggedEvent],
    asked: Iterable[tuple[str, int]],
    base: Mapping[str, BaseHistory],
    length: int,
    relogged: Collection[str] = (),
) -> dict[tuple[str, int], list[str] | Unserved]:
    """For each user and version asked for: the items of the history at that version, oldest first, or why they are not known.

    It is the newest ``length`` events by time (of one moment: in the order they came, those of the base first) among the base
    and the events that entered with that version or a lower one. Of the users ``relogged`` nothing is known: their events were
    applied twice, with different outcomes.
    """
    users: defaultdict[str, _User] = defaultdict(_User)
    for user_id, version in asked:
        users[user_id].versions.add(version)
    for logged in events:
        if logged.event.user_id in users:
            users[logged.event.user_id].take(logged)
    histories: dict[tuple[str, int], list[str] | Unserved] = {}
    for user_id, user in users.items():
        known = base.get(user_id, BaseHistory())
        why = Unserved.UNACCOUNTED if user_id in relogged else _unserved(user, known)
        found = {} if why else _at_versions(user, known, length)
        for version in user.versions:
            histories[user_id, version] = found.get(version, why or Unserved.UNACCOUNTED)
    return histories


def _before(logged: LoggedEvent) -> int:
    """The version before the event."""
    return logged.version - logged.entered


def _unserved(user: _User, base: BaseHistory) -> Unserved | None:
    """Why the base is not what the history was before the user's first logged event; None if it is."""
    if user.first is None:
        return Unserved.UNACCOUNTED
    if base.count > _before(user.first) or (base.times and base.times[-1] >= user.first.event.time):
        return Unserved.TABLES_AHEAD
    return Unserved.UNACCOUNTED if base.count < _before(user.first) else None


def _at_versions(user: _User, base: BaseHistory, length: int) -> dict[int, list[str]]:
    """The histories of those versions that the base and the logged events account for; none if they contradict each other."""
    first = base.count
    asked = sorted((version for version in user.versions if version >= first), reverse=True)
    histories: dict[int, list[str]] = {}
    kept = _Kept(base, length)
    if asked and asked[-1] == first:
        histories[asked.pop()] = kept.items
    for version, logged in enumerate(sorted(user.entered, key=lambda logged: logged.version), start=first + 1):
        if logged.version != version:
            break
        if not kept.can_take(logged):
            return {}
        if kept.order_is_open(logged):
            break
        kept.take(logged)
        if asked and asked[-1] == version:
            histories[asked.pop()] = kept.items
    return histories


class _Kept:
    """The history as the store keeps it: (time, order of arrival, item), oldest first."""

    def __init__(self, base: BaseHistory, length: int) -> None:
        # Of arrival: the base's places count up to -1, versions from 0.
        came = range(-len(base.items), 0)
        self._events = list(zip(base.times, came, base.items, strict=True))[-length:]
        self._places = {(item, time): place for item, time, place in zip(base.items, base.times, base.places, strict=True)}
        self._logged_places = base.logged_places
        self._length = length

    @property
    def items(self) -> list[str]:
        return [item for _, _, item in self._events]

    def can_take(self, logged: LoggedEvent) -> bool:
        """Whether the store would have let it enter.

        An event of the tables as old as the oldest of a full history may have been in it before: then it is not known when.
        """
        item, time = logged.event.item_id, logged.event.time
        if any(each[2] == item for each in self._of_moment(time)):
            return False
        if len(self._events) < self._length:
            return True
        oldest = self._events[0][0]
        return time > oldest or (time == oldest and (item, time) not in self._logged_places)

    def order_is_open(self, logged: LoggedEvent) -> bool:
        """Whether a materialization would order it otherwise among those of its moment than its arrival did.

        It puts events of the batch first, in the tables' order, and leaves the version as it is.
        """
        mine = self._place(logged.event.item_id, logged.event.time)
        if mine is None:
            return False
        others = [self._place(item, time) for time, _, item in self._of_moment(logged.event.time)]
        return any(other is None or other > mine for other in others)

    def take(self, logged: LoggedEvent) -> None:
        insort(self._events, (logged.event.time, logged.version, logged.event.item_id))
        del self._events[: -self._length]

    def _place(self, item: str, time: float) -> int | None:
        return self._logged_places.get((item, time), self._places.get((item, time)))

    def _of_moment(self, time: float) -> list[tuple[float, int, str]]:
        first = bisect_left(self._events, time, key=lambda event: event[0])
        last = first
        while last < len(self._events) and self._events[last][0] == time:
            last += 1
        return self._events[first:last]
