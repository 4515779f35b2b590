"""``POST /events``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.body import read_body
from service.api.event_body import EventBodyReader, SentEvents
from service.api.event_schemas import EventsResponse, request_schema
from service.api.problems import safe_path
from service.api.schemas import Problem
from service.errors import EventsInvalidError, EventsNotDeclaredError, FieldProblem
from service.ingestion.intake import EventIntake
from service.ingestion.received import IntakeReport, RefusedEvent
from service.settings import RequestLimits

MAX_REFUSALS_LISTED = 100
MAX_ERRORS_LISTED = 4
_REASON_LENGTH = 120

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "model": Problem, "content": {"application/problem+json": {}}}
    for status, text in {
        400: "The body is not JSON",
        404: "The service's feature views declare no events",
        408: "The body did not come in time",
        413: "The body is too large",
        415: "The body is not declared as JSON",
        422: "No event could be taken; the first eight problems are listed",
        503: "No event could be kept; see Retry-After and send the same again",
    }.items()
}
_APPLIED = "Every accepted event is in the user's history"
_KEPT = "Every accepted event is kept safe, and will be applied"


def event_routes(intake: EventIntake | None, limits: RequestLimits, max_events: int) -> APIRouter:
    """The route, closed over what it needs; without an intake it answers that no events are declared."""
    router = APIRouter()
    reader = EventBodyReader(max_events)

    @router.post(
        "/events",
        response_model=EventsResponse,
        response_description=_APPLIED,
        responses={202: {"description": _KEPT, "model": EventsResponse}, **_PROBLEMS},
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": request_schema(max_events)}}}
        },
        summary="Tell what users did; the next ranking knows it",
    )
    async def events(request: Request) -> Response:
        if intake is None:
            raise EventsNotDeclaredError("the service has no feature views that declare events")
        body = await read_body(request, limits.max_body_bytes, limits.body_timeout_s)
        received_at = time.time()
        # Only now: a client that sends slowly holds no place that others need.
        with intake.place():
            sent = await reader.read(body)
            report = await intake.take(sent.events, received_at)
        if not report.accepted:
            raise EventsInvalidError(_all_problems(sent, report.refused))
        return Response(_encode(sent, report), 200 if report.applied else 202, media_type="application/json")

    return router


def _all_problems(sent: SentEvents, refused: Iterable[RefusedEvent]) -> list[FieldProblem]:
    return [
        FieldProblem(_path(each.index, problem.field) if sent.is_batch else problem.field, problem.reason)
        for each in refused
        for problem in each.problems
    ]


def _path(index: int, field: str) -> str:
    return f"events[{index}]" if field == "(event)" else f"events[{index}].{field}"


def _encode(sent: SentEvents, report: IntakeReport) -> bytes:
    return msgspec.json.encode(
        {
            "accepted": report.accepted,
            "duplicates": report.duplicates,
            "refused_count": len(report.refused),
            "refused": [_refusal(each) for each in report.refused[:MAX_REFUSALS_LISTED]],
            "users": [
                {"user_id": sent.wire_ids[user], "history_version": version} for user, version in report.versions.items()
            ],
            "applied": report.applied,
        }
    )


def _refusal(refused: RefusedEvent) -> dict[str, Any]:
    errors = [
        {"field": safe_path(each.field), "reason": each.reason[:_REASON_LENGTH]}
        for each in refused.problems[:MAX_ERRORS_LISTED]
    ]
    return {"index": refused.index, "errors": errors}
