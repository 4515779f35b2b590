"""``POST /rank`` below the framework: from ASGI messages to an answer's bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.types import Receive, Scope

from service.api.authentication import AdminToken
from service.api.binary_body import decode_binary_call, encode_binary_answer
from service.api.body import parse_body, receive_body
from service.api.media import BINARY, JSON, body_media
from service.api.rank_call import RankCall, call_of
from service.api.rank_decoder import decode_call
from service.api.rank_encoder import encode_answer, encode_document, encode_items
from service.api.request_ids import RequestIds
from service.api.schemas import RankRequest
from service.errors import NotAuthenticatedError
from service.ranking.query import Answer, RankQuery
from service.ranking.stages import StageClock
from service.settings import RequestLimits

PATH = "/rank"

Offer = Callable[[bytes], object]
"""Takes an answer's JSON, at once and without an error (``ExposureLog.offer``)."""


class Ranks(Protocol):
    """Answers queries."""

    async def rank(self, query: RankQuery, clock: StageClock) -> Answer: ...


class StageObserver(Protocol):
    """Told where each answer's time went, in milliseconds by stage."""

    def stages_done(self, timings_ms: Mapping[str, float], /) -> None: ...


class RankEndpoint:
    """One request to one answer; every error is raised."""

    def __init__(
        self,
        ranker: Ranks,
        limits: RequestLimits,
        admin: AdminToken | None,
        observer: StageObserver,
        *,
        offer: Offer | None = None,
    ) -> None:
        """``offer`` is given every answer as its JSON document, the very bytes that go out where those are JSON."""
        self._ranker = ranker
        self._limits = limits
        self._admin = admin
        self._observer = observer
        self._offer = offer
        self._new_request_id = RequestIds()

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
        content = encode_binary_answer(call, answer, clock) if wants_binary else encode_answer(call, answer, clock)
        self._observer.stages_done(clock.timings_ms)
        if self._offer is not None:
            self._offer(encode_document(call, answer, encode_items(call, answer), clock) if wants_binary else content)
        return content, BINARY if wants_binary else JSON

    def _decode(self, media: bytes, body: bytes, scope: Scope, arrived: float) -> RankCall:
        if media == BINARY:
            return decode_binary_call(body, self._limits, arrived)
        call = decode_call(body, self._limits, arrived, self._new_request_id)
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
