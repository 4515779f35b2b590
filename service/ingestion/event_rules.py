"""The rules of the team's views for one event: a declared type, the value it must have or not, context fields of their kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from feature_store.encoding.values import ValueRefusedError, category_text, number_value
from feature_store.event_types import Events, EventType
from feature_store.events.event import ContextValue, Event, encode_event, new_event
from feature_store.views import CategoriesField, ContextField, FeatureViews, NumberField
from service.errors import EventsNotDeclaredError, FieldProblem
from service.ingestion.event_size import MAX_EVENT_BYTES, size_problem
from service.ingestion.event_time import MICROSECONDS, TimeRefusedError, TimeRule
from service.ingestion.received import ReceivedEvent, RefusalReason, RefusedEvent

_INT64 = 1 << 63
_SHOWN_TYPES_LENGTH = 80
_MAX_CONTEXT_PROBLEMS = 8

ContextReader = Callable[[object], ContextValue]


class EventRules:
    """The rules of one set of views.

    Raises:
        EventsNotDeclaredError: the views declare no events.
    """

    def __init__(self, views: FeatureViews, time: TimeRule) -> None:
        if views.events is None:
            raise EventsNotDeclaredError("the feature views declare no events")
        self._types: Mapping[str, EventType] = {kind.name: kind for kind in views.events.types}
        self._unknown_type = f"not a declared type; declared: {_shown(self._types)}"
        self._context = {field.name: _reader(field) for field in views.context}
        self._time = time
        self._microseconds_per_unit = _microseconds_per_unit(views.events)
        self._resolution_us = views.events.resolution_us

    def declared(self, type_name: str | None) -> str | None:
        """The type's name if it is declared, else None."""
        return type_name if type_name in self._types else None

    def judge(self, received: ReceivedEvent, received_at: float) -> Event | RefusedEvent:
        """The event to keep, or every rule that it breaks. ``received_at`` is Unix seconds of the server's clock."""
        too_large = size_problem(received.context)
        if too_large is not None:
            return _refused(received, [("size", too_large)])
        problems: list[tuple[RefusalReason, FieldProblem]] = []
        problems += self._type_problems(received)
        time_us = 0
        try:
            time_us = self._time.microseconds(received.time, round(received_at * MICROSECONDS))
            # Floored here, once: spool, history, log and export then have the time that the team's own tables have.
            time_us -= time_us % self._resolution_us
        except TimeRefusedError as error:
            problems.append((error.reason, FieldProblem("time", str(error))))
        context, context_problems = self._read_context(received.context)
        problems += [("context", problem) for problem in context_problems]
        if problems:
            return _refused(received, problems)
        event = new_event(
            event_id=received.event_id,
            user_id=received.user_id,
            item_id=received.item_id,
            type=received.type,
            time=time_us / self._microseconds_per_unit,
            received_at=received_at,
            value=None if received.value is None else float(received.value),
            request_id=received.request_id,
            history_version=received.history_version,
            context=context,
        )
        if len(encode_event(event)) > MAX_EVENT_BYTES:
            return _refused(received, [("size", FieldProblem("(event)", f"longer than {MAX_EVENT_BYTES} bytes as it is kept"))])
        return event

    def _type_problems(self, received: ReceivedEvent) -> list[tuple[RefusalReason, FieldProblem]]:
        kind = self._types.get(received.type)
        if kind is None:
            return [("type", FieldProblem("type", self._unknown_type))]
        if kind.value is None:
            taken = received.value is None
            return [] if taken else [("value", FieldProblem("value", f"events of type {kind.name} have no value"))]
        if received.value is None:
            return [("value", FieldProblem("value", f"events of type {kind.name} need a value"))]
        return [] if _fits_double(received.value) else [("value", FieldProblem("value", "must be finite and fit a double"))]

    def _read_context(self, sent: Mapping[str, object]) -> tuple[dict[str, ContextValue], list[FieldProblem]]:
        context: dict[str, ContextValue] = {}
        problems: list[FieldProblem] = []
        for name, value in sent.items():
            if len(problems) == _MAX_CONTEXT_PROBLEMS:
                break
            read = self._context.get(name)
            if read is None:
                problems.append(FieldProblem(f"context.{name}", "not a context field of the feature views"))
                continue
            try:
                kept = read(value)
            except ValueRefusedError as error:
                problems.append(FieldProblem(f"context.{name}", str(error)))
                continue
            if kept is not None:
                context[name] = kept
        return context, problems


def _shown(types: Mapping[str, EventType]) -> str:
    text = ", ".join(types)
    return text if len(text) <= _SHOWN_TYPES_LENGTH else text[:_SHOWN_TYPES_LENGTH].rpartition(",")[0] + ", ..."


def _microseconds_per_unit(events: Events) -> float:
    return MICROSECONDS / events.units_per_s


def _refused(received: ReceivedEvent, problems: Sequence[tuple[RefusalReason, FieldProblem]]) -> RefusedEvent:
    return RefusedEvent(received.index, received.type, problems[0][0], tuple(problem for _, problem in problems))


def _fits_double(value: int | float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _reader(field: ContextField) -> ContextReader:
    """What reads a value of the field's kind; null and empty text are missing, as in ``/rank``."""
    if isinstance(field, NumberField):
        return _number
    return _categories if isinstance(field, CategoriesField) else _category


def _number(value: object) -> float | None:
    number = number_value(value)
    if value is not None and math.isnan(number):
        raise ValueRefusedError("a number must be finite")
    return None if value is None else number


def _category(value: object) -> str | int | bool | None:
    if value is None or value == "":
        return None
    text = category_text(value)
    # The bytes of an event hold 64-bit integers; a longer one is the same category as its text.
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return value
    return text


def _categories(value: object) -> list[str | int] | None:
    if value is None or value == "":
        return None
    if not isinstance(value, list):
        raise ValueRefusedError(f"a list of categories is needed, not {type(value).__name__}")
    kept: list[str | int] = []
    for each in value:
        if isinstance(each, bool):
            raise ValueRefusedError("a list of categories holds text and integers")
        read = _category(each)
        if read is not None:
            kept.append(read)
    return kept
