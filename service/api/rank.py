"""``POST /rank``."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from service.api.authentication import AdminToken
from service.api.rank_door import RankDoor
from service.api.rank_endpoint import PATH, Offer, RankEndpoint, Ranks, StageObserver
from service.api.schemas import Problem, RankRequest, RankResponse
from service.request_metrics import RequestObserver
from service.settings import RequestLimits

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "model": Problem, "content": {"application/problem+json": {}}}
    for status, text in {
        400: "The body is not JSON",
        401: "Overrides without a valid admin token",
        413: "The body is too large",
        415: "The body is not declared as JSON",
        408: "The body did not come in time",
        422: "Fields are wrong; the first eight are listed",
        429: "The scoring queue is full; see Retry-After",
    }.items()
}


class RankTelemetry(StageObserver, RequestObserver, Protocol):
    """Told of stages and of requests."""


def add_rank_route(
    app: FastAPI,
    ranker: Ranks,
    limits: RequestLimits,
    admin: AdminToken | None,
    observer: RankTelemetry,
    *,
    offer: Offer | None = None,
) -> RankDoor:
    """Serve ``POST /rank``: the route in the application's document, and the door to be served before the application.

    Both lead to one endpoint. ``offer``: see ``RankEndpoint``.
    """
    endpoint = RankEndpoint(ranker, limits, admin, observer, offer=offer)
    app.include_router(_documented_route(endpoint))
    return RankDoor(app, endpoint, observer)


def _documented_route(endpoint: RankEndpoint) -> APIRouter:
    router = APIRouter()

    @router.post(
        PATH,
        response_model=RankResponse,
        responses=_PROBLEMS,
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _request_schema()}}}},
        summary="Rank the candidates for a user",
    )
    async def rank(request: Request) -> Response:
        content, media = await endpoint.answer(request.scope, request.receive)
        return Response(content, media_type=media.decode())

    return router


def _request_schema() -> dict[str, Any]:
    return RankRequest.model_json_schema(ref_template="#/components/schemas/{model}")
