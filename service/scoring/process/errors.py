"""What goes wrong between front-ends and the scorer. Callers of a model never see these: they get errors of scoring."""

from __future__ import annotations

from service.scoring.errors import ModelRefusedError


class ScorerProcessError(Exception):
    """Base of this package's own errors.

    ScorerProcessError
    ├── ProtocolError          a peer said, or wrote, what it must not: its connection ends
    ├── SlotTooSmallError      arrays do not fit a slot
    └── ScorerStartError       the supervisor could not start the scorer process

    and ScorerLostError, a ModelRefusedError: the scorer process died while it was loading.
    """


class ProtocolError(ScorerProcessError):
    """The peer does not keep to the protocol."""


class SlotTooSmallError(ScorerProcessError):
    """The arrays need more room than a slot has."""


class ScorerStartError(ScorerProcessError):
    """The scorer process did not come up."""


class ScorerLostError(ModelRefusedError):
    """The scorer process died while a version was being loaded, of that version or of something else."""
