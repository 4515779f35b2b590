"""Takes the events of one request: judges each alone, keeps the good ones, tells what became of every one.

Events must never slow ranking, which shares the event loop: the work is cut into slices, and the number of requests at work is
bounded, as is what each waits for the store. When the store is behind anyway, nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from feature_store.errors import SpoolFailedError, SpoolFullError
from feature_store.events.event import Event
from feature_store.events.ports import Applied
from service.errors import EventsUnavailableError, UnavailableReason
from service.ingestion.event_rules import EventRules
from service.ingestion.event_size import values_in
from service.ingestion.ports import Applier, IntakeObserver
from service.ingestion.received import IntakeReport, ReceivedEvent, RefusedEvent

SLICE = 32
"""How many events are looked at before others may use the event loop; fewer, once they hold ``SLICE_VALUES``."""

SLICE_VALUES = 2_000
"""Context values, those in lists included: an event may have as many as dozens of others."""

_RETRY_AFTER_BUSY_S = 1.0
_RETRY_AFTER_FAILED_S = 5.0


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """How much is taken at once: requests at work, the wait for the store, and the backlog beyond which nobody waits."""

    max_requests: int
    apply_timeout_s: float
    max_backlog: int


@dataclass(slots=True)
class _Judged:
    """A request's events, parted. An event whose id its user already sent in this request is a duplicate and not kept twice."""

    fresh: list[Event] = field(default_factory=list)
    repeated: list[Event] = field(default_factory=list)
    refused: list[RefusedEvent] = field(default_factory=list)


class EventIntake:
    """The use case behind ``POST /events``."""

    def __init__(self, rules: EventRules, applier: Applier, observer: IntakeObserver, limits: IntakeLimits) -> None:
        self._rules = rules
        self._applier = applier
        self._observer = observer
        self._limits = limits
        self._at_work = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests at work.

        Raises:
            EventsUnavailableError: all are taken.
        """
        if self._at_work >= self._limits.max_requests:
            raise self._unavailable("too_many_requests", _RETRY_AFTER_BUSY_S)
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    async def take(self, received: Sequence[ReceivedEvent | RefusedEvent], received_at: float) -> IntakeReport:
        """Judge and keep. ``received`` is in the request's order; ``received_at`` is Unix seconds of the server's clock.

        Every event is counted once, when its fate is known; none is when the request fails as a whole.

        Raises:
            EventsUnavailableError: the good events could not be kept; sending all again is safe.
        """
        judged = await self._judge(received, received_at)
        outcomes = await self._submit(judged.fresh) if judged.fresh else []
        self._count(judged, outcomes)
        return _report(judged, outcomes)

    async def _judge(self, received: Sequence[ReceivedEvent | RefusedEvent], received_at: float) -> _Judged:
        judged = _Judged()
        seen: set[tuple[str, str]] = set()
        events, values = 0, 0
        for each in received:
            verdict = each if isinstance(each, RefusedEvent) else self._rules.judge(each, received_at)
            if isinstance(verdict, RefusedEvent):
                judged.refused.append(verdict)
            elif (verdict.user_id, verdict.event_id) in seen:
                judged.repeated.append(verdict)
            else:
                seen.add((verdict.user_id, verdict.event_id))
                judged.fresh.append(verdict)
            events, values = events + 1, values + _values(each)
            if events >= SLICE or values >= SLICE_VALUES:
                events, values = 0, 0
                await asyncio.sleep(0)
        return judged

    async def _submit(self, events: Sequence[Event]) -> list[Applied] | None:
        behind = self._applier.backlog > self._limits.max_backlog
        try:
            return await self._applier.submit(events, 0.0 if behind else self._limits.apply_timeout_s)
        except SpoolFullError as error:
            raise self._unavailable("spool_full", error.retry_after_s) from None
        except SpoolFailedError:
            raise self._unavailable("spool_failed", _RETRY_AFTER_FAILED_S) from None

    def _unavailable(self, reason: UnavailableReason, retry_after_s: float) -> EventsUnavailableError:
        self._observer.event_request_refused(reason)
        return EventsUnavailableError(reason, retry_after_s)

    def _count(self, judged: _Judged, outcomes: Sequence[Applied] | None) -> None:
        old = [] if outcomes is None else [event for event, done in zip(judged.fresh, outcomes, strict=True) if not done.fresh]
        duplicates = Counter(event.type for event in (*old, *judged.repeated))
        accepted = Counter(event.type for event in (*judged.fresh, *judged.repeated))
        for type_name, count in accepted.items():
            self._observer.events_accepted(type_name, count=count - duplicates[type_name], duplicates=duplicates[type_name])
        for each in judged.refused:
            self._observer.event_refused(self._rules.declared(each.type), each.reason)


def _values(received: ReceivedEvent | RefusedEvent) -> int:
    return values_in(received.context) if isinstance(received, ReceivedEvent) else 0


def _report(judged: _Judged, outcomes: Sequence[Applied] | None) -> IntakeReport:
    accepted = len(judged.fresh) + len(judged.repeated)
    if outcomes is None:
        unknown = dict.fromkeys(event.user_id for event in judged.fresh)
        return IntakeReport(accepted, None, judged.refused, unknown, applied=False)
    versions: dict[str, int | None] = {}
    for event, done in zip(judged.fresh, outcomes, strict=True):
        versions[event.user_id] = max(versions.get(event.user_id) or 0, done.version)
    duplicates = len(judged.repeated) + sum(not done.fresh for done in outcomes)
    return IntakeReport(accepted, duplicates, judged.refused, versions, applied=True)
