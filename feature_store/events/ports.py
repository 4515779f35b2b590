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
    """How far a spool is applied, as the store itself notes it: it must stand at ``before`` (None: nowhere), goes to ``after``.

    A store that lost its last writes lost the mark's last moves with them.
    """

    spool_id: str
    before: int | None
    after: int


class EventStore(Protocol):
    """Applies events; every call is one round trip (on a cluster, one per node)."""

    async def apply(self, events: Sequence[Event], mark: SpoolMark) -> list[Applied]:
        """Apply events in this order, each once whatever came before, and move the mark.

        Raises:
            StoreUnavailableError: some may be applied, some not; the mark did not move; applying all again is safe.
            StoreRewoundError: the mark does not stand where it was left. Some may be applied, some not; it did not move.
        """

    async def applied_through(self, spool_id: str) -> int | None:
        """The sequence number noted last for this spool; None when the store knows nothing of it.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
