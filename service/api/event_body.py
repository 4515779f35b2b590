"""Bytes to received events: the JSON is parsed once, then each event is validated alone, so that a bad one spoils no other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from feature_store.encoding.values import category_text
from service.api.event_schemas import WireEvent
from service.api.schemas import MAX_FIELDS
from service.errors import BodyUnreadableError, EventsInvalidError, FieldProblem
from service.ingestion.intake import SLICE
from service.ingestion.received import ReceivedEvent, RefusedEvent

PARTS_PER_EVENT = 16
"""Lists and objects: hundreds of thousands of empty ones fit a body, and building them would hold up everybody's rankings."""

_FIELDS = len(WireEvent.model_fields)
_NEEDED = {
    "event_id": "text or an integer is needed",
    "user_id": "text or an integer is needed",
    "item_id": "text or an integer is needed",
    "time": "Unix seconds or RFC 3339 text is needed",
    "value": "a finite number is needed",
}


@dataclass(frozen=True, slots=True)
class SentEvents:
    """The events of one body in its order. ``wire_ids`` maps a user to the id as it came in (the first, if in both types)."""

    events: list[ReceivedEvent | RefusedEvent]
    wire_ids: dict[str, int | str]
    is_batch: bool


class EventBodyReader:
    """Reads one body at a time: what a hostile one grows to in memory is never there twice."""

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._max_parts = PARTS_PER_EVENT * max(max_events, 1_000)
        self._turn = asyncio.Lock()

    async def read(self, body: bytes) -> SentEvents:
        """The events of a body; malformed ones as ``RefusedEvent``.

        Raises:
            BodyUnreadableError: not JSON (UTF-8, bounded depth).
            EventsInvalidError: JSON, but neither an event nor a batch of 1 to ``max_events``, or of too many parts.
        """
        async with self._turn:
            listed, is_batch = self._listed(_parse(body, self._max_parts))
            sent = SentEvents([], {}, is_batch)
            for index, raw in enumerate(listed):
                sent.events.append(_read_event(index, raw, sent.wire_ids))
                if index % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
            return sent

    def _listed(self, content: object) -> tuple[list[Any], bool]:
        if not isinstance(content, dict):
            raise EventsInvalidError([FieldProblem("(body)", "an event, or an object with a list of events, is needed")])
        if "events" not in content:
            return [content], False
        if len(content) > 1:
            raise EventsInvalidError([FieldProblem("(body)", "beside events there are no other fields")])
        listed = content["events"]
        if not isinstance(listed, list) or not 1 <= len(listed) <= self._max_events:
            raise EventsInvalidError([FieldProblem("events", f"a list of 1 to {self._max_events} events is needed")])
        return listed, True


def _parse(body: bytes, max_parts: int) -> object:
    """As in ``/rank``: of a key that stands twice the last counts, and what is not finite is refused where it stands."""
    if body.count(b"[") + body.count(b"{") > max_parts:
        raise EventsInvalidError(
            [FieldProblem("(body)", f"more than {max_parts} lists and objects: send fewer events at once")]
        )
    try:
        return from_json(body)
    except ValueError:
        raise BodyUnreadableError("the body is not valid JSON") from None


def _read_event(index: int, raw: object, wire_ids: dict[str, int | str]) -> ReceivedEvent | RefusedEvent:
    problem = _shape_problem(raw)
    if problem is not None:
        return RefusedEvent(index, _type_of(raw), "malformed", (problem,))
    try:
        wire = WireEvent.model_validate(raw)
    except ValidationError as error:
        return RefusedEvent(index, _type_of(raw), "malformed", _problems(error))
    user_id = category_text(wire.user_id)
    wire_ids.setdefault(user_id, wire.user_id)
    return ReceivedEvent(
        index=index,
        event_id=category_text(wire.event_id),
        user_id=user_id,
        item_id=category_text(wire.item_id),
        type=wire.type,
        time=wire.time,
        value=wire.value,
        request_id=wire.request_id,
        history_version=wire.history_version,
        context=wire.context,
    )


def _shape_problem(raw: object) -> FieldProblem | None:
    """What must not reach the validator: it would report thousands of fields one by one."""
    if not isinstance(raw, dict):
        return FieldProblem("(event)", "an object is needed")
    if len(raw) > 2 * _FIELDS:
        return FieldProblem("(event)", f"an event has at most {_FIELDS} fields")
    context = raw.get("context")
    if isinstance(context, dict) and len(context) > MAX_FIELDS:
        return FieldProblem("context", f"at most {MAX_FIELDS} fields")
    return None


def _type_of(raw: object) -> str | None:
    called = raw.get("type") if isinstance(raw, dict) else None
    return called if isinstance(called, str) else None


def _problems(error: ValidationError) -> tuple[FieldProblem, ...]:
    """One line per field: a bad time fails every member of its union, and a client knows fields, not unions."""
    first: dict[str, FieldProblem] = {}
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(each["loc"][0])
        if field not in first:
            first[field] = FieldProblem(field, _reason(field, each["type"], each["msg"]))
    return tuple(first.values())


def _reason(field: str, kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown field"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    return message if kind == "missing" else _NEEDED.get(field, message)
