"""What the intake of events needs from the rest, as protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from feature_store.events.event import Event
from feature_store.events.ports import Applied
from service.errors import UnavailableReason
from service.ingestion.received import RefusalReason


class Applier(Protocol):
    """Keeps events safe, then applies them to the store in order."""

    async def submit(self, events: Sequence[Event], timeout_s: float) -> list[Applied] | None:
        """Keep the events (they are durable when it returns), and tell what applying each did.

        None when the store did not take them within ``timeout_s``; it will later.

        Raises:
            SpoolFullError: there is no room; nothing was kept.
            SpoolFailedError: the disk failed; whether they were kept is not known.
        """

    @property
    def backlog(self) -> int:
        """How many events are durable and not applied yet."""


class IntakeObserver(Protocol):
    """Told of every event that was answered, once, and of every request of which nothing was kept; must not raise or block.

    A type that is not declared comes as None.
    """

    def events_accepted(self, type_name: str, *, count: int, duplicates: int) -> None: ...
    def event_refused(self, type_name: str | None, reason: RefusalReason) -> None: ...
    def event_request_refused(self, reason: UnavailableReason) -> None: ...
