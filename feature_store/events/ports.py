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


class EventStore(Protocol):
    """Applies events; every call is one round trip (on a cluster, one per node)."""

    async def apply(self, events: Sequence[Event], spool_id: str, sequence: int) -> list[Applied]:
        """Apply events in this order, each once whatever came before, and note that the spool is applied up to ``sequence``.

        Raises:
            StoreUnavailableError: some may be applied, some not; applying all again is safe.
        """

    async def applied_through(self, spool_id: str) -> int | None:
        """The sequence number noted last for this spool; None when the store knows nothing of it.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
