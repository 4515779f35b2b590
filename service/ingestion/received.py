"""What came in and what became of it, inside the service: no wire types, ids as canonical text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from service.errors import FieldProblem

RefusalReason = Literal["malformed", "type", "time", "future", "ancient", "value", "context", "size"]


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One event whose fields have the right shape; whether the team's rules take it is not known yet.

    ``index`` is its place in the request. ``time`` is Unix seconds or RFC 3339 text, None where it came without one.
    """

    index: int
    event_id: str
    user_id: str
    item_id: str
    type: str
    time: int | float | str | None = None
    value: int | float | None = None
    request_id: str | None = None
    history_version: int | None = None
    context: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that was not taken: every field that is wrong, and the first reason (for metrics).

    ``type`` is what it called itself, None where that was no text.
    """

    index: int
    type: str | None
    reason: RefusalReason
    problems: tuple[FieldProblem, ...]


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """What became of one request's events: each is accepted (a duplicate is, too) or refused.

    ``versions`` maps each user of an accepted event to the newest version of the history, in the order of arrival. Where the
    store has not applied the events yet (``applied`` is False), versions and ``duplicates`` are not known: None.
    """

    accepted: int
    duplicates: int | None
    refused: Sequence[RefusedEvent]
    versions: Mapping[str, int | None]
    applied: bool
