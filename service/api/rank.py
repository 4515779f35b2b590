"""``POST /rank``."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from feature_store.encoding.values import category_text
from service.api.authentication import AdminToken
from service.api.body import parse_body, read_body
from service.api.schemas import Problem, RankRequest, RankResponse
from service.errors import FieldProblem, NotAuthenticatedError, RequestInvalidError
from service.ranking.query import Answer, RankQuery
from service.ranking.ranker import Ranker
from service.ranking.stages import StageClock
from service.settings import RequestLimits
from service.telemetry import Telemetry

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


def rank_routes(ranker: Ranker, limits: RequestLimits, admin: AdminToken | None, telemetry: Telemetry) -> APIRouter:
    """The route, closed over what it needs."""
    router = APIRouter()

    @router.post(
        "/rank",
        response_model=RankResponse,
        responses=_PROBLEMS,
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _request_schema()}}}},
        summary="Rank the candidates for a user",
    )
    async def rank(request: Request) -> Response:
        body = await read_body(request, limits.max_body_bytes, limits.body_timeout_s)
        # From here on it is our time: how long a client took to send is no stage, and no part of its deadline.
        clock = StageClock()
        wire = parse_body(RankRequest, body)
        _authorize(wire, admin, request)
        query = _to_query(wire, limits, clock.started)
        clock.lap("parse")
        answer = await ranker.rank(query, clock)
        content = _encode(wire, query, answer, clock)
        telemetry.stages_done(clock.timings_ms)
        return Response(content, media_type="application/json")

    return router


def _request_schema() -> dict[str, Any]:
    return RankRequest.model_json_schema(ref_template="#/components/schemas/{model}")


def _authorize(wire: RankRequest, admin: AdminToken | None, request: Request) -> None:
    if not wire.overrides:
        return
    if admin is None:
        raise NotAuthenticatedError("overrides are for admins, and this service has no admin token")
    admin.check(request)


def _to_query(wire: RankRequest, limits: RequestLimits, arrived: float) -> RankQuery:
    problems = []
    if len(wire.candidates) > limits.max_candidates:
        problems.append(FieldProblem("candidates", f"at most {limits.max_candidates} are ranked at once"))
    if wire.timeout_ms is not None and wire.timeout_ms > limits.max_timeout_ms:
        problems.append(FieldProblem("timeout_ms", f"at most {limits.max_timeout_ms}"))
    if problems:
        raise RequestInvalidError(problems)
    timeout_ms = wire.timeout_ms or limits.default_timeout_ms
    return RankQuery(
        request_id=wire.request_id or uuid.uuid4().hex,
        user_id=category_text(wire.user_id),
        candidates=tuple(map(category_text, wire.candidates)),
        deadline=arrived + timeout_ms / 1e3,
        context=wire.context,
        candidate_features=wire.candidate_features,
        history=None if wire.history is None else tuple(map(category_text, wire.history)),
        top_k=wire.top_k,
        explain_attention=wire.explain == "attention",
        overrides=wire.overrides,
        min_history_version=wire.min_history_version,
    )


def _encode(wire: RankRequest, query: RankQuery, answer: Answer, clock: StageClock) -> bytes:
    content: dict[str, Any] = {
        "request_id": query.request_id,
        "user_id": wire.user_id,
        "items": _items(wire, answer),
        "ranked_by": answer.ranked_by,
        "model": answer.model,
        "experiments": answer.arms,
        "generation": answer.generation,
        "freshness": answer.freshness,
        "degraded": answer.degraded,
    }
    if answer.attention_history is not None:
        content["attention_history"] = answer.attention_history
    # The long part is encoded inside the stage that it belongs to; only the timings themselves come after.
    content["items"] = msgspec.Raw(msgspec.json.encode(content["items"]))
    clock.lap("respond")
    timings: Mapping[str, float] = {**clock.timings_ms, "total": (time.monotonic() - clock.started) * 1e3}
    content["timings_ms"] = {stage: round(value, 4) for stage, value in timings.items()}
    return msgspec.json.encode(content)


def _items(wire: RankRequest, answer: Answer) -> list[dict[str, Any]]:
    ids = [wire.candidates[place] for place in answer.order]
    if answer.scores is None:
        return [{"id": each, "score": None} for each in ids]
    names = list(answer.scores)
    columns = zip(ids, answer.scores[answer.ranked_by], *answer.scores.values(), strict=True)
    items = [{"id": each, "score": score, **dict(zip(names, named, strict=True))} for each, score, *named in columns]
    if answer.attention is not None:
        for item, weights in zip(items, answer.attention, strict=True):
            item["attention"] = weights
    return items
