"""A decoded ``POST /rank``: the query, and what the answer must say in the types that came over the wire."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from feature_store.encoding.values import category_text
from service.api.schemas import RankRequest
from service.errors import FieldProblem, RequestInvalidError
from service.ranking.query import RankQuery
from service.settings import RequestLimits


class RankCall(msgspec.Struct, frozen=True, gc=False):
    """``ids`` are the candidates as they were sent; None where all were integers: then an id's text is its JSON, too."""

    query: RankQuery
    user_id: int | str
    ids: Sequence[int | str] | None


def new_request_id() -> str:
    """128 random bits as 32 hexadecimal digits; where many are needed, ``RequestIds`` gives them for less."""
    return os.urandom(16).hex()


def call_of(wire: RankRequest, limits: RequestLimits, arrived: float) -> RankCall:
    """The call that a validated request makes; its time counts from ``arrived``, a moment of ``time.monotonic()``.

    Raises:
        RequestInvalidError: beyond the service's limits.
    """
    candidates = tuple(map(category_text, wire.candidates))
    query = query_of(wire, category_text(wire.user_id), candidates, limits, arrived)
    return RankCall(query, wire.user_id, wire.candidates)


def query_of(wire: RankRequest, user: str, candidates: Sequence[str], limits: RequestLimits, arrived: float) -> RankQuery:
    """The query of a validated request for these ids.

    Raises:
        RequestInvalidError: beyond the service's limits.
    """
    problems = []
    if len(candidates) > limits.max_candidates:
        problems.append(FieldProblem("candidates", f"at most {limits.max_candidates} are ranked at once"))
    if wire.timeout_ms is not None and wire.timeout_ms > limits.max_timeout_ms:
        problems.append(FieldProblem("timeout_ms", f"at most {limits.max_timeout_ms}"))
    if problems:
        raise RequestInvalidError(problems)
    return RankQuery(
        request_id=wire.request_id or new_request_id(),
        user_id=user,
        candidates=candidates,
        deadline=arrived + (wire.timeout_ms or limits.default_timeout_ms) / 1e3,
        context=wire.context,
        candidate_features=wire.candidate_features,
        history=None if wire.history is None else tuple(map(category_text, wire.history)),
        top_k=wire.top_k,
        explain_attention=wire.explain == "attention",
        overrides=wire.overrides,
        min_history_version=wire.min_history_version,
    )
