"""``POST /rank``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.middleware import Middleware
from starlette.responses import Response

from service.api.authentication import AdminToken
from service.api.rank_endpoint import PATH, RankDoor, RankEndpoint, Ranks, StageObserver
from service.api.schemas import Problem, RankRequest, RankResponse
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


def add_rank_route(
    app: FastAPI, ranker: Ranks, limits: RequestLimits, admin: AdminToken | None, observer: StageObserver
) -> None:
    """Serve ``POST /rank``; the application must not have started.

    The route stands in the application's document; requests come to the same endpoint through a door before the router.
    """
    endpoint = RankEndpoint(ranker, limits, admin, observer)
    app.include_router(_documented_route(endpoint))
    # Last, so inside those that count and guard every request. The table is the application's own, not a copy.
    app.user_middleware.append(Middleware(RankDoor, endpoint=endpoint, problems=app.exception_handlers))


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
