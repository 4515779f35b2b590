"""``POST /rank`` below the framework: from ASGI messages to an answer's bytes, and the door that leads there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from service.api.authentication import AdminToken
from service.api.binary_body import decode_binary_call, encode_binary_answer
from service.api.body import parse_body, receive_body
from service.api.media import BINARY, JSON, body_media
from service.api.rank_call import RankCall, call_of
from service.api.rank_decoder import decode_call
from service.api.rank_encoder import encode_answer
from service.api.schemas import RankRequest
from service.errors import NotAuthenticatedError
from service.ranking.query import Answer, RankQuery
from service.ranking.stages import StageClock
from service.settings import RequestLimits

PATH = "/rank"


class Ranks(Protocol):
    """Answers queries."""

    async def rank(self, query: RankQuery, clock: StageClock) -> Answer: ...


class StageObserver(Protocol):
    """Told where each answer's time went, in milliseconds by stage."""

    def stages_done(self, timings_ms: Mapping[str, float], /) -> None: ...


class RankEndpoint:
    """One request to one answer; every error is raised."""

    def __init__(self, ranker: Ranks, limits: RequestLimits, admin: AdminToken | None, observer: StageObserver) -> None:
        self._ranker = ranker
        self._limits = limits
        self._admin = admin
        self._observer = observer

    async def answer(self, scope: Scope, receive: Receive) -> tuple[bytes, bytes]:
        """The answer's content and its media type.

        Raises:
            ServiceError, OverloadedError: see the table in ``problems.py``.
        """
        limits = self._limits
        media, wants_binary = body_media(scope["headers"], BINARY)
        body = await receive_body(receive, limits.max_body_bytes, limits.body_timeout_s)
        # From here on it is our time: how long a client took to send is no stage, and no part of its deadline.
        clock = StageClock()
        call = self._decode(media, body, scope, clock.started)
        clock.lap("parse")
        answer = await self._ranker.rank(call.query, clock)
        encode = encode_binary_answer if wants_binary else encode_answer
        content = encode(call, answer, clock)
        self._observer.stages_done(clock.timings_ms)
        return content, BINARY if wants_binary else JSON

    def _decode(self, media: bytes, body: bytes, scope: Scope, arrived: float) -> RankCall:
        if media == BINARY:
            return decode_binary_call(body, self._limits, arrived)
        call = decode_call(body, self._limits, arrived)
        if call is not None:
            return call
        wire = parse_body(RankRequest, body)
        if wire.overrides:
            self._authorize(Request(scope))
        return call_of(wire, self._limits, arrived)

    def _authorize(self, request: Request) -> None:
        if self._admin is None:
            raise NotAuthenticatedError("overrides are for admins, and this service has no admin token")
        self._admin.check(request)


class RankDoor:
    """Pure ASGI: takes ``POST /rank`` past the router and what surrounds it; everything else goes the framework's way.

    Errors are answered by the application's own table, here and not in a thread: its answers are made of a few lines.
    """

    def __init__(self, app: ASGIApp, endpoint: RankEndpoint, problems: Mapping[type[Exception], ExceptionHandler]) -> None:
        self._app = app
        self._endpoint = endpoint
        self._problems = problems
        self._route = Route(PATH, self, methods=["POST"])  # metrics name a request by its route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST" or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        try:
            content, media = await self._endpoint.answer(scope, receive)
        except Exception as error:
            await self._problem(Request(scope), error)(scope, receive, send)
            return
        headers = [(b"content-length", b"%d" % len(content)), (b"content-type", media)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _problem(self, request: Request, error: Exception) -> Response:
        for kind in type(error).__mro__:
            if kind is Exception:
                break  # unexpected: the outermost middleware logs and answers it
            if kind in self._problems:
                response: Response = self._problems[kind](request, error)  # type: ignore[arg-type, assignment]
                return response
        raise error
