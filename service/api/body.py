"""Bytes to a validated request: bounded reading, one compiled decoder, problems without echo."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Iterable, Sequence
from types import CoroutineType, coroutine
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request
from starlette.types import Message, Receive

from service.api.media import body_media
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
    """The whole body, if it is within the limit and declared as JSON.

    Raises:
        BodyTooLargeError: it is longer.
        BodyTooSlowError: it was not whole after ``timeout_s``.
        BodyUnreadableError: not declared as JSON, compressed, or the client left.
    """
    body_media(request.scope["headers"])
    return await receive_body(request.receive, limit_bytes, timeout_s)


async def receive_body(receive: Receive, limit_bytes: int, timeout_s: float) -> bytes:
    """The whole body, if it is within the limit. One that came with its headers, as most do, costs no timer.

    Of a longer one some more is read and dropped: a client that is still sending would meet a reset, not the answer.

    Raises:
        BodyTooLargeError: it is longer.
        BodyTooSlowError: it was not whole after ``timeout_s``.
        BodyUnreadableError: the client left.
    """
    waiting = receive()
    if not isinstance(waiting, CoroutineType):
        return await _receive_in_time(waiting, receive, limit_bytes, timeout_s)
    try:
        pending = waiting.send(None)
    except StopIteration as done:
        message: Message = done.value
        if not message.get("more_body") and message["type"] == "http.request":
            body: bytes = message.get("body", b"")
            if len(body) > limit_bytes:
                raise BodyTooLargeError(limit_bytes) from None
            return body
        return await _receive_in_time(_already(message), receive, limit_bytes, timeout_s)
    return await _receive_in_time(_begun(waiting, pending), receive, limit_bytes, timeout_s)


async def _receive_in_time(first: Awaitable[Message], receive: Receive, limit_bytes: int, timeout_s: float) -> bytes:
    try:
        async with asyncio.timeout(timeout_s):
            return await _receive_within(first, receive, limit_bytes)
    except TimeoutError:
        raise BodyTooSlowError(f"the body was not whole after {timeout_s:g} s") from None


async def _receive_within(first: Awaitable[Message], receive: Receive, limit_bytes: int) -> bytes:
    body = bytearray()
    length = 0
    message = await first
    while True:
        if message["type"] == "http.disconnect":
            raise BodyUnreadableError("the client left before the body was whole")
        chunk = message.get("body", b"")
        length += len(chunk)
        if length <= limit_bytes:
            body += chunk
        elif length > _PATIENCE * limit_bytes:
            break
        if not message.get("more_body", False):
            break
        message = await receive()
    if length > limit_bytes:
        raise BodyTooLargeError(limit_bytes)
    return bytes(body)


async def _already(message: Message) -> Message:
    return message


@coroutine
def _begun(waiting: CoroutineType[Any, Any, Message], pending: Any) -> Generator[Any, Any, Message]:
    """Await the rest of a coroutine that was started by hand and waits for ``pending`` (PEP 492: what it yielded goes up)."""
    message: Message
    while True:
        try:
            yield pending
        except BaseException as error:  # a timeout or the request's end: it belongs inside the coroutine
            try:
                pending = waiting.throw(error)
            except StopIteration as done:
                message = done.value
                return message
        else:
            message = yield from waiting.__await__()
            return message


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
