"""Who is served next when several models want the same thread or event loop: shares by measured seconds, not by runs.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each member carries the seconds it was given, the one that was
given least is next, and whoever joins starts where the one being served stands. So a member that was idle saves up nothing,
one that was served much waits until the others have had as much, and a newcomer waits for the run in progress and no more.
It is deficit round robin without a quantum. The members of one turn are models: few, so the least is found by looking.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Generic, Protocol, TypeVar


class Member(Protocol):
    """``served_s``: seconds on the share's own scale; written by the share alone."""

    served_s: float


M = TypeVar("M", bound=Member)


_served_s = attrgetter("served_s")


class FairShare(Generic[M]):
    """The members that have work. Holds no others, so that whoever is idle can be freed."""

    def __init__(self) -> None:
        self.ready: dict[M, None] = {}
        self._reached_s = 0.0

    def join(self, member: M) -> None:
        """It has work now. Ties go to whoever joined first."""
        if member not in self.ready:
            member.served_s = max(member.served_s, self._reached_s)
            self.ready[member] = None

    def leave(self, member: M) -> None:
        """It has no work any more, or must not be served meanwhile."""
        self.ready.pop(member, None)

    def next(self) -> M | None:
        """Who was given least, if anyone has work."""
        if len(self.ready) <= 1:
            return next(iter(self.ready), None)
        return min(self.ready, key=_served_s)

    def begin(self, member: M) -> None:
        """It is being served from now on: newcomers start where it stands."""
        self._reached_s = max(self._reached_s, member.served_s)

    def charge(self, member: M, seconds: float) -> None:
        """It was served for so long."""
        member.served_s += seconds

    def charge_alone(self, member: M, seconds: float) -> None:
        """It was served for so long while nobody had work."""
        self.begin(member)
        member.served_s = self._reached_s + seconds
