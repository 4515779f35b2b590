"""The common body of ``POST /rank``, decoded in a tenth of the validator's time.

Whatever is not accepted here goes through the wire schema, which says what is wrong. So this way may refuse what it likes, but
must never accept what the schema refuses, nor understand it differently; a property test holds the two side by side.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec

from feature_store.integer_ids import IntegerIds
from service.api.rank_call import RankCall, new_request_id
from service.api.schemas import INT64_MAX, MAX_FIELDS, MAX_LIST_VALUES
from service.api.wire_ids import id_texts, listed_ids
from service.ranking.query import RankQuery
from service.settings import RequestLimits

_Values = Annotated[list[str | int], msgspec.Meta(max_length=MAX_LIST_VALUES)]
_Value = str | bool | int | float | _Values | None
_Name = Annotated[str, msgspec.Meta(max_length=64)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=INT64_MAX)]
_MAX_HISTORY = 10_000
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)


class _Options(msgspec.Struct, forbid_unknown_fields=True):
    """All fields of ``RankRequest`` but user, candidates and ``overrides``: those are for admins, who take the long way."""

    context: dict[_Name, _Value] = msgspec.field(default_factory=dict)
    candidate_features: dict[_Name, list[_Value]] = msgspec.field(default_factory=dict)
    history: list[int | str] | None = None
    top_k: _Positive | None = None
    timeout_ms: _Positive | None = None
    explain: Literal["none", "attention"] = "none"
    request_id: str | None = None
    min_history_version: Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)] | None = None


class _Body(_Options, kw_only=True, forbid_unknown_fields=True):
    user_id: int | str
    candidates: msgspec.Raw


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_options = msgspec.json.Decoder(_Options).decode


def decode_call(
    body: bytes, limits: RequestLimits, arrived: float, new_id: Callable[[], str] = new_request_id
) -> RankCall | None:
    """The call of a common body, or None: then only the schema can say what it is."""
    wire = _decoded(_decode_body, body)
    if wire is None:
        return None
    listed = listed_ids(bytes(wire.candidates))
    user = id_texts((wire.user_id,))
    if listed is None or user is None or len(listed) > limits.max_candidates:
        return None
    query = _query(wire, user[0], listed, limits, arrived, new_id=new_id)
    return None if query is None else RankCall(query, wire.user_id, None if isinstance(listed, IntegerIds) else listed)


def decode_options(
    options: bytes, user: str, candidates: Sequence[str], limits: RequestLimits, arrived: float
) -> RankQuery | None:
    """The query of a body whose user and candidates came apart from its JSON and are known to be ids; None as above."""
    wire = _decoded(_decode_options, options or b"{}")
    return None if wire is None else _query(wire, user, candidates, limits, arrived)


def _decoded(decode: Any, content: bytes) -> Any:
    try:
        if not content.isascii():
            content.decode("utf-8")  # parts that are skipped, as the first of a key that stands twice, must be UTF-8, too
        return decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _query(
    wire: _Options,
    user: str,
    candidates: Sequence[str],
    limits: RequestLimits,
    arrived: float,
    *,
    new_id: Callable[[], str] = new_request_id,
) -> RankQuery | None:
    timeout_ms = wire.timeout_ms or limits.default_timeout_ms
    if timeout_ms > limits.max_timeout_ms and wire.timeout_ms is not None:
        return None
    if wire.request_id is not None and _REQUEST_ID.fullmatch(wire.request_id) is None:
        return None
    if len(wire.context) > MAX_FIELDS or len(wire.candidate_features) > MAX_FIELDS:
        return None
    history = None
    if wire.history is not None:
        history = id_texts(wire.history)
        if history is None or len(history) > _MAX_HISTORY:
            return None
    return RankQuery(
        request_id=wire.request_id or new_id(),
        user_id=user,
        candidates=candidates,
        deadline=arrived + timeout_ms / 1e3,
        context=wire.context,
        candidate_features=wire.candidate_features,
        history=history,
        top_k=wire.top_k,
        explain_attention=wire.explain == "attention",
        min_history_version=wire.min_history_version,
    )
