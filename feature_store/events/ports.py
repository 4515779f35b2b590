"""What the way of an event needs of the store: apply a batch once, and tell how far a spool had come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from feature_store.events.event import Event


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying did: ``fresh`` is False when the event's id was applied before; ``version`` is the history's afterwards."""

    fresh: bool
    version: int


@dataclass(frozen=True, slots=True)
class SpoolMark:
    """How far a spool is applied, as the store itself notes it: it must stand at ``before`` (None: nowhere that can be relied
    on; it is put at ``start`` then, where the events given begin), goes to ``after``.

    A store that lost its last writes lost the mark's last moves with them.
    """

    spool_id: str
    before: int | None
    after: int
    start: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a mark stands: the ``number`` noted last (None: nothing is), and whether the servers were others when it was.

    Where they were, what is there now may be less than the number says, and need not be.
    """

    number: int | None
    servers_changed: bool = False

    @property
    def sure(self) -> int | None:
        """The number, as far as it holds for the servers that are there."""
        return None if self.servers_changed else self.number


class ApplierObserver(Protocol):
    """Told what becomes of events on their way into the store. Must not block; what it raises is logged."""

    def batch_applied(self, events: Sequence[Event], fresh: Sequence[bool]) -> None: ...
    def replay_began(self) -> None: ...
    def try_failed(self, reason: str) -> None: ...
    def events_lost(self, count: int) -> None: ...
    def record_rejected(self) -> None: ...


class EventStore(Protocol):
    """Applies events. ``applied_through`` is one question; ``apply`` is several exchanges, one after the other, of which none
    is undone when a later one fails: the mark is looked at, the events are applied, the mark is moved."""

    async def apply(self, events: Sequence[Event], mark: SpoolMark) -> list[Applied]:
        """Apply events in this order, each once whatever came before, and move the mark.

        Raises:
            StoreUnavailableError: some may be applied, some not; the mark did not move; applying all again is safe.
            StoreRewoundError: the mark does not stand where it was left. Some may be applied, some not; it did not move.
        """

    async def applied_through(self, spool_id: str) -> Standing:
        """How far this spool is applied, as the store notes it.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
