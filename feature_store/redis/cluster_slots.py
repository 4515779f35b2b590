"""Which node of a cluster serves which slot."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

from feature_store.errors import StoreUnavailableError

SLOTS = 16_384

Address = tuple[str, int]


class SlotMap:
    """The masters by slot, as one node told it and redirections have corrected it since."""

    def __init__(self, reply: object, asked: Address) -> None:
        """``reply`` is that of CLUSTER SLOTS; a node that does not know its own name means the host ``asked``.

        Raises:
            StoreUnavailableError: ``protocol``, no such reply.
        """
        self._owners: list[Address | None] = [None] * SLOTS
        if not isinstance(reply, list):
            raise StoreUnavailableError("protocol", "CLUSTER SLOTS was answered by no list")
        for first, last, owner in _ranges(reply, asked):
            self._owners[first : last + 1] = repeat(owner, last + 1 - first)

    def owner(self, slot: int) -> Address:
        """The master that serves the slot.

        Raises:
            StoreUnavailableError: ``cluster_down``, nobody serves it.
        """
        owner = self._owners[slot]
        if owner is None:
            raise StoreUnavailableError("cluster_down", "no node of the cluster serves some of the slots")
        return owner

    def move(self, slot: int, owner: Address) -> None:
        """Correct one slot."""
        self._owners[slot] = owner

    @property
    def masters(self) -> set[Address]:
        """Every node that serves some slot."""
        return {owner for owner in self._owners if owner is not None}


def _ranges(reply: list[object], asked: Address) -> Iterator[tuple[int, int, Address]]:
    for row in reply:
        match row:
            case [int(first), int(last), [host, int(port), *_], *_] if 0 <= first <= last < SLOTS:
                named = host.decode(errors="replace") if isinstance(host, bytes) else ""
                yield first, last, (asked[0] if named in ("", "?") else named, port)
            case _:
                raise StoreUnavailableError("protocol", "CLUSTER SLOTS was answered by something else")
