"""Every error as RFC 9457 ``application/problem+json``: the one table from exceptions to status codes.

A problem never repeats what the client sent, beyond names of fields that look like names, and stays under 2 KB.
"""

from __future__ import annotations

import http
import logging
import math
import re
import uuid
from collections.abc import Sequence

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.errors import (
    BodyTooLargeError,
    BodyTooSlowError,
    BodyUnreadableError,
    EventsInvalidError,
    EventsNotDeclaredError,
    EventsUnavailableError,
    FieldProblem,
    NotAuthenticatedError,
    ReloadRefusedError,
    RequestInvalidError,
)
from service.scoring.errors import OverloadedError

MEDIA_TYPE = "application/problem+json"
MAX_LISTED = 8
_SAFE_PATH = re.compile(r"^([A-Za-z0-9_.\[\]-]{1,80}|\((body|event)\))$")
_log = logging.getLogger("rankline.api")


def problem(
    status: int,
    kind: str,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    headers: dict[str, str] | None = None,
    in_full: bool = False,
) -> Response:
    """A problem answer; ``kind`` becomes the problem type's last part. ``in_full`` lists every error: for admins only."""
    content: dict[str, object] = {
        "type": f"urn:rankline:problem:{kind}",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail[:400],
        "request_id": uuid.uuid4().hex,
    }
    if errors:
        listed = errors if in_full else [FieldProblem(each.field, each.reason[:120]) for each in errors[:MAX_LISTED]]
        content["errors"] = [{"field": safe_path(each.field), "reason": each.reason} for each in listed]
        if len(errors) > len(listed):
            content["detail"] = f"{detail} ({len(errors)} problems, the first {MAX_LISTED} are listed)"
    return Response(msgspec.json.encode(content), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def safe_path(path: str) -> str:
    """The path of a field, unless it holds what no field name holds: then a client chose it, and it is not repeated."""
    return path if _SAFE_PATH.match(path) else "(a name that is not a field's)"


def _too_large(_: Request, error: BodyTooLargeError) -> Response:
    return problem(413, "body-too-large", str(error), headers={"Connection": "close"})


def _too_slow(_: Request, error: BodyTooSlowError) -> Response:
    return problem(408, "body-too-slow", str(error), headers={"Connection": "close"})


def _unreadable(_: Request, error: BodyUnreadableError) -> Response:
    if error.unsupported_media:
        return problem(415, "unsupported-media-type", str(error))
    return problem(400, "body-unreadable", str(error))


def _invalid(_: Request, error: RequestInvalidError) -> Response:
    return problem(422, "request-invalid", "the request cannot be ranked as it is", errors=error.problems)


def _events_invalid(_: Request, error: EventsInvalidError) -> Response:
    return problem(422, "request-invalid", "no event was taken", errors=error.problems)


def _events_not_declared(_: Request, error: EventsNotDeclaredError) -> Response:
    return problem(404, "events-not-declared", str(error))


def _events_unavailable(_: Request, error: EventsUnavailableError) -> Response:
    kind = f"events-{error.reason.replace('_', '-')}"
    detail = f"{error}; nothing was acknowledged, send the same events again"
    return problem(503, kind, detail, headers={"Retry-After": str(max(1, math.ceil(error.retry_after_s)))})


def _unauthenticated(_: Request, error: NotAuthenticatedError) -> Response:
    return problem(401, "not-authenticated", str(error), headers={"WWW-Authenticate": "Bearer"})


def _overloaded(_: Request, error: OverloadedError) -> Response:
    seconds = max(1, round(error.retry_after_s + 0.5))
    return problem(429, "overloaded", "the scoring queue is full; nothing was done", headers={"Retry-After": str(seconds)})


def _refused(_: Request, error: ReloadRefusedError) -> Response:
    errors = [FieldProblem(f"problem[{place}]", reason) for place, reason in enumerate(error.problems)]
    return problem(422, "plan-refused", "the plan was refused; the running plan stays in force", errors=errors, in_full=True)


def _framework(_: Request, error: HTTPException) -> Response:
    kind = http.HTTPStatus(error.status_code).phrase.lower().replace(" ", "-").replace("'", "")
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, kind, http.HTTPStatus(error.status_code).description or kind, headers=headers)


def _parameters(_: Request, error: RequestValidationError) -> Response:
    errors = [FieldProblem(".".join(map(str, each["loc"])), str(each["type"])) for each in error.errors()]
    return problem(422, "request-invalid", "the request's parameters are wrong", errors=errors)


def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("request failed", exc_info=error, extra={"route": request.scope.get("path", "")[:100]})
    return problem(500, "internal", "an error of the service, not of the request")


def install_problem_answers(app: FastAPI) -> None:
    """Answer every exception with a problem."""
    table: dict[type[Exception], object] = {
        BodyTooLargeError: _too_large,
        BodyTooSlowError: _too_slow,
        BodyUnreadableError: _unreadable,
        RequestInvalidError: _invalid,
        EventsInvalidError: _events_invalid,
        EventsNotDeclaredError: _events_not_declared,
        EventsUnavailableError: _events_unavailable,
        NotAuthenticatedError: _unauthenticated,
        OverloadedError: _overloaded,
        ReloadRefusedError: _refused,
        HTTPException: _framework,
        RequestValidationError: _parameters,
        Exception: _unexpected,
    }
    for exception, answer in table.items():
        app.add_exception_handler(exception, answer)  # type: ignore[arg-type]
