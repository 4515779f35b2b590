"""Bytes to a validated request: bounded reading, one compiled decoder, problems without echo."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect, Request

from service.errors import BodyTooLargeError, BodyTooSlowError, BodyUnreadableError, FieldProblem, RequestInvalidError

Schema = TypeVar("Schema", bound=BaseModel)

_PATIENCE = 8
"""How many times the limit is read before the connection is given up."""

MAX_ERRORS = 1_000
"""A body that is wrong in more places is told just that: making a line of each would hold up everybody's rankings."""

_ID_FIELDS = ("user_id", "candidates", "history")

# Pydantic puts the tried member of a union into an error's path; clients know fields, not unions.
_UNION_PARTS = frozenset({"int", "str", "bool", "float", "list[union[str,int]]"})


async def read_body(request: Request, limit_bytes: int, timeout_s: float) -> bytes:
    """The whole body, if it is within the limit.

    Of a longer one some more is read and dropped: a client that is still sending would meet a reset, not the answer.

    Raises:
        BodyTooLargeError: it is longer.
        BodyTooSlowError: it was not whole after ``timeout_s``.
        BodyUnreadableError: not declared as JSON, compressed, or the client left.
    """
    _check_media(request)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_within(request, limit_bytes)
    except TimeoutError:
        raise BodyTooSlowError(f"the body was not whole after {timeout_s:g} s") from None
    except ClientDisconnect:
        raise BodyUnreadableError("the client left before the body was whole") from None


async def _read_within(request: Request, limit_bytes: int) -> bytes:
    body = bytearray()
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length <= limit_bytes:
            body += chunk
        elif length > _PATIENCE * limit_bytes:
            break
    if length > limit_bytes:
        raise BodyTooLargeError(limit_bytes)
    return bytes(body)


def _check_media(request: Request) -> None:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise BodyUnreadableError("send the header Content-Type: application/json", unsupported_media=True)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise BodyUnreadableError("compressed bodies are not accepted", unsupported_media=True)


def parse_body(schema: type[Schema], body: bytes) -> Schema:
    """Validate JSON bytes against a wire schema.

    Raises:
        BodyUnreadableError: not JSON (UTF-8, no NaN or Infinity, bounded depth).
        RequestInvalidError: JSON, but fields are wrong; every one is listed, of a list the first.
    """
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > MAX_ERRORS:
            raise RequestInvalidError([FieldProblem("(body)", f"more than {MAX_ERRORS:,} things are wrong")]) from None
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if problems[0]["type"] == "json_invalid":
            raise BodyUnreadableError("the body is not valid JSON") from None
        raise RequestInvalidError(_problems_by_field(problems)) from None
    except RecursionError:
        raise BodyUnreadableError("the body is nested too deeply") from None


def _problems_by_field(errors: Iterable[ErrorDetails]) -> list[FieldProblem]:
    """One line per field: a bad id fails every member of its union, and a client knows fields, not unions."""
    reasons: dict[str, list[ErrorDetails]] = {}
    for error in errors:
        reasons.setdefault(_path(error), []).append(error)
    return [FieldProblem(path, _reason(path, each)) for path, each in reasons.items()]


def _path(error: ErrorDetails) -> str:
    path = ""
    for part in error["loc"]:
        if str(part) not in _UNION_PARTS and "[" not in str(part):
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "(body)"


def _reason(path: str, errors: Sequence[ErrorDetails]) -> str:
    telling = next((error for error in errors if error["type"] in ("value_error", "extra_forbidden")), None)
    if telling is not None:
        return "unknown field" if telling["type"] == "extra_forbidden" else telling["msg"].removeprefix("Value error, ")
    if len(errors) == 1:
        return errors[0]["msg"]
    return "text or an integer is needed" if path.startswith(_ID_FIELDS) else "text, a finite number, a truth value or a list"
