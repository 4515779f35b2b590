"""What can go wrong between a request and its answer. No HTTP codes here: ``api/problems.py`` holds the one table.

Scoring and experiments have trees of their own beside their code.

ServiceError
├── BodyTooLargeError       the body is longer than the limit
├── BodyTooSlowError        the body did not come whole in time
├── BodyUnreadableError     the bytes are not JSON of the expected media type
├── RequestInvalidError     well-formed, but a field is wrong; lists every problem
│   └── EventsInvalidError      no event of the request could be taken
├── NotAuthenticatedError   an admin route or override without a valid token
├── ReloadRefusedError      a plan or model change was refused; the running one stays
├── EventsNotDeclaredError  live events came to a service whose feature views declare none
├── EventsUnavailableError  live events cannot be kept now; ``reason`` says why, from a closed set
└── StartupError            the process cannot become useful with these settings
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


class ServiceError(Exception):
    """Base of the service's own errors."""


class BodyTooLargeError(ServiceError):
    """The request body is longer than ``limit_bytes``."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body is longer than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class BodyTooSlowError(ServiceError):
    """The request body did not come whole in time."""


class BodyUnreadableError(ServiceError):
    """The body is not JSON (``unsupported_media`` where its media type or encoding already says so)."""

    def __init__(self, reason: str, *, unsupported_media: bool = False) -> None:
        super().__init__(reason)
        self.unsupported_media = unsupported_media


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong with a request: the path of the field and the reason, never the value."""

    field: str
    reason: str


class RequestInvalidError(ServiceError):
    """The request is JSON, but says something the service cannot accept."""

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{problem.field}: {problem.reason}" for problem in self.problems))


class EventsInvalidError(RequestInvalidError):
    """A request of live events of which none could be taken."""


class NotAuthenticatedError(ServiceError):
    """The caller did not show a valid admin token."""


class ReloadRefusedError(ServiceError):
    """A new plan or model was refused; what ran before still runs."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class EventsNotDeclaredError(ServiceError):
    """The service takes no live events: there are no feature views, or they declare none."""


UnavailableReason = Literal["spool_full", "spool_failed", "too_many_requests"]


class EventsUnavailableError(ServiceError):
    """No event of the request was acknowledged; sending all again after ``retry_after_s`` is safe."""

    def __init__(self, reason: UnavailableReason, retry_after_s: float) -> None:
        super().__init__(f"live events cannot be taken now: {reason}")
        self.reason: UnavailableReason = reason
        self.retry_after_s = retry_after_s


class StartupError(ServiceError):
    """The process cannot start usefully; the message says which setting to change."""
