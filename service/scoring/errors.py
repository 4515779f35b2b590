"""What can go wrong between encoded rows and scores. No status codes here: the door maps these to its own."""

from __future__ import annotations

from collections.abc import Mapping


class ScoringError(Exception):
    """Base of every error of this package.

    ScoringError
    ├── while serving
    │   ├── OverloadedError           refused at the door, before any work
    │   ├── DeadlinePassedError       not scored by the caller's deadline
    │   ├── ScoringFailedError        this request cannot be scored; its neighbours were not harmed
    │   └── ScorerClosedError         the process is stopping
    └── while loading
        ├── ModelRefusedError         a published version is not what its manifest says
        ├── ModelsUnavailableError    one or more references of a load, each with its reason
        └── ProviderUnavailableError  an execution provider was demanded that is not there
    """


class OverloadedError(ScoringError):
    """The queue is full; ``retry_after_s`` estimates when there will be room."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlinePassedError(ScoringError):
    """The caller's deadline came before its scores."""


class ScoringFailedError(ScoringError):
    """This request has no scores: wrong shapes, ids out of range, scores that are not finite, or a failing graph."""


class ScorerClosedError(ScoringError):
    """Submitted to, or still waiting in, a scorer that was closed."""


class ModelRefusedError(ScoringError):
    """A published version failed a check at load; the message names the version, the check and what was measured."""


class ProviderUnavailableError(ScoringError):
    """The demanded execution provider cannot be used by this process."""


class ModelsUnavailableError(ScoringError):
    """Some references could not be loaded; ``reasons`` maps each (``name@version``) to why."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("\n".join(f"{reference}: {reason}" for reference, reason in reasons.items()))
        self.reasons = dict(reasons)
