"""What can go wrong between a plan's text and a unit's arm. No HTTP codes: the service's own table maps these.

ExperimentsError
├── UnitIdInvalidError      a unit id that cannot be hashed: empty, not text or integer, not UTF-8
├── DrawInvalidError        a salt or a bucket count that cannot be used
├── PlanInvalidError        the plan says something wrong; lists every problem
├── OverrideInvalidError    forced arms that the plan does not have, or that exclude each other; lists every problem
├── StateUnavailableError   the directory of the last good plan cannot be read, locked or written
└── LastGoodCorruptError    a stored last good plan is torn or altered
"""

from __future__ import annotations

from collections.abc import Iterable


class ExperimentsError(Exception):
    """Base of what can go wrong with experiments."""


class UnitIdInvalidError(ExperimentsError):
    """The unit id cannot be hashed."""


class DrawInvalidError(ExperimentsError):
    """The salt is not UTF-8 text, or the bucket count is not a positive integer."""


class PlanInvalidError(ExperimentsError):
    """The plan cannot be used; ``problems`` lists every reason as ``path: reason``, one printable line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class OverrideInvalidError(ExperimentsError):
    """Overrides that cannot be followed; ``problems`` names what the plan has and never repeats what was sent."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class StateUnavailableError(ExperimentsError):
    """The state directory cannot be used now; nothing was changed."""


class LastGoodCorruptError(ExperimentsError):
    """The stored last good plan is not, byte for byte, what was written."""
