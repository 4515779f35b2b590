"""An answer's JSON with few objects: the items are written of one type, made for the names of their scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from feature_store.integer_ids import IntegerIds
from service.api.rank_call import RankCall
from service.ranking.query import Answer, ArmTaken, Degraded, Freshness, ModelUsed
from service.ranking.stages import StageClock

_encode = msgspec.json.Encoder().encode
_Raw, _UNSET = msgspec.Raw, msgspec.UNSET
_OWN_KEYS = frozenset({"id", "score", "attention"})


class _Wire(msgspec.Struct, gc=False):
    """The document in its order; ``items`` is JSON already."""

    request_id: str
    user_id: int | str
    items: msgspec.Raw
    ranked_by: str
    model: ModelUsed
    experiments: tuple[ArmTaken, ...]
    generation: int
    freshness: Freshness
    degraded: Degraded | None
    attention_history: list[str] | msgspec.UnsetType
    timings_ms: msgspec.Raw


def encode_answer(call: RankCall, answer: Answer, clock: StageClock) -> bytes:
    """The document of ``RankResponse``. Ends the clock's last stage, ``respond``."""
    # The long part is encoded inside the stage that it belongs to; only the timings themselves come after.
    items = encode_items(call, answer)
    clock.lap("respond")
    return encode_document(call, answer, items, clock)


def encode_document(call: RankCall, answer: Answer, items: bytes, clock: StageClock) -> bytes:
    """The document around items that are JSON already; the clock's last stage has ended."""
    history = answer.attention_history
    return _encode(
        _Wire(
            call.query.request_id,
            call.user_id,
            _Raw(items),
            answer.ranked_by,
            answer.model,
            answer.arms,
            answer.generation,
            answer.freshness,
            answer.degraded,
            _UNSET if history is None else history,
            timings_of(clock),
        )
    )


def encode_rest(call: RankCall, answer: Answer, score_names: tuple[str, ...], clock: StageClock) -> bytes:
    """The document without its items, for answers whose items are written apart; attention aligns with those."""
    rest: dict[str, Any] = {
        "request_id": call.query.request_id,
        "user_id": call.user_id,
        "ranked_by": answer.ranked_by,
        "score_names": score_names,
        "model": answer.model,
        "experiments": answer.arms,
        "generation": answer.generation,
        "freshness": answer.freshness,
        "degraded": answer.degraded,
    }
    if answer.attention is not None:
        rest["attention"] = answer.attention
    if answer.attention_history is not None:
        rest["attention_history"] = answer.attention_history
    rest["timings_ms"] = timings_of(clock)
    return _encode(rest)


def timings_of(clock: StageClock) -> msgspec.Raw:
    """The stages and ``total`` in milliseconds, to a tenth of a microsecond: rounded by printing, which is cheaper."""
    timings = clock.timings_ms
    total = (time.monotonic() - clock.started) * 1e3
    return msgspec.Raw(_timings_template(tuple(timings)) % (*timings.values(), total))


@lru_cache(maxsize=64)
def _timings_template(stages: tuple[str, ...]) -> bytes:
    return b"{" + b",".join(_encode(stage) + b":%.4f" for stage in (*stages, "total")) + b"}"


def encode_items(call: RankCall, answer: Answer) -> bytes:
    """The list of ranked items: id, score, named scores, attention."""
    ids, scores = _ids(call, answer.order), answer.scores
    if scores is None:
        return _encode([{"id": each, "score": None} for each in ids])
    best = scores[answer.ranked_by]
    item_type = _item_type(tuple(scores)) if answer.attention is None else None
    if item_type is not None:
        return _encode(list(map(item_type, ids, best, *scores.values())))
    named = [dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True)]
    items: list[dict[str, Any]] = [
        {"id": each, "score": score, **names} for each, score, names in zip(ids, best, named, strict=True)
    ]
    if answer.attention is not None:
        for item, weights in zip(items, answer.attention, strict=True):
            item["attention"] = weights
    return _encode(items)


def _ids(call: RankCall, order: Sequence[int]) -> list[int] | list[int | str]:
    """The ranked candidates in the types that they came in."""
    candidates = call.query.candidates
    if isinstance(candidates, IntegerIds):
        integers: list[int] = candidates.values[order].tolist()
        return integers
    if call.ids is None:
        return [int(candidates[place]) for place in order]
    ids = call.ids
    return [ids[place] for place in order]


@lru_cache(maxsize=256)
def _item_type(names: tuple[str, ...]) -> Callable[..., msgspec.Struct] | None:
    """An item with these scores, made once by kind of answer: a ranking is then one call per item and one encoding.

    None for names that a type's fields cannot have.
    """
    if any(name in _OWN_KEYS or not name.isprintable() or '"' in name or "\\" in name for name in names):
        return None
    fields = [f"name_{place}" for place in range(len(names))]
    return msgspec.defstruct("Item", ["id", "score", *fields], rename=dict(zip(fields, names, strict=True)), gc=False)
