"""Features of one request to the inputs of the model that its arm named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feature_store.encoding.encoder import HISTORY_INPUT, Block, FeatureEncoder
from feature_store.encoding.values import RawValue, ValueRefusedError
from service.errors import FieldProblem, RequestInvalidError
from service.ranking.ports import FetchedFeatures
from service.ranking.query import RankQuery
from service.scoring.batch import ScoringRequest

USER_VALUE_REFUSED = "user_value_refused"


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """Model inputs, and the fields that were defaulted: each is named by one of ``missing``, ``stale``, ``refused``."""

    request: ScoringRequest
    history: Sequence[str]
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    refused: tuple[str, ...]
    faults: tuple[str, ...]


def encode_query(
    encoder: FeatureEncoder, query: RankQuery, fetched: FetchedFeatures, *, uses_history: bool, attention: bool
) -> EncodedQuery:
    """Encode user, context, candidates and history; the request's own values win over stored ones.

    Raises:
        RequestInvalidError: a value in ``context`` or ``candidate_features`` is not of its field's kind.
    """
    user, refused = _encode_user(encoder, fetched.user or {})
    history = query.history if query.history is not None else fetched.history_items
    blocks = {"user": user, **_encode_sent(encoder, query, fetched.items)}
    inputs: dict[str, np.ndarray] = {}
    for view, block in blocks.items():
        if block.categories.shape[1]:
            inputs[f"{view}_categories"] = block.categories
        if block.numbers.shape[1]:
            inputs[f"{view}_numbers"] = block.numbers
    if uses_history:
        inputs[HISTORY_INPUT] = encoder.encode_history([history])
    request = ScoringRequest(inputs=inputs, rows=len(query.candidates), want_attention=attention)
    return EncodedQuery(
        request,
        history[-encoder.history_length :],
        missing=_missing(encoder, query, fetched),
        stale=_stale(encoder, query, fetched),
        refused=refused,
        faults=(USER_VALUE_REFUSED,) if refused else (),
    )


def _encode_user(encoder: FeatureEncoder, values: Mapping[str, RawValue]) -> tuple[Block, tuple[str, ...]]:
    """The user's row and the fields that do not take their stored values any more.

    Those are the store's fault, not the caller's: each alone is defaulted.
    """
    view = encoder.views["user"]
    try:
        return view.encode_records([values]), ()
    except ValueRefusedError:
        refused = view.refused(values)
    sound = {name: value for name, value in values.items() if name not in refused}
    return view.encode_records([sound]), refused


def _encode_sent(encoder: FeatureEncoder, query: RankQuery, items: Block) -> dict[str, Block]:
    """The views that hold what the caller sent: a refused value is the caller's to mend."""
    try:
        context = encoder.views["context"].encode_records([query.context])
    except ValueRefusedError as error:
        raise RequestInvalidError([FieldProblem("context", str(error))]) from None
    try:
        if encoder.views["item"].names & query.candidate_features.keys():
            items = encoder.views["item"].replace(items, query.candidate_features)
        candidate = encoder.views["candidate"].encode(query.candidate_features, len(query.candidates))
    except ValueRefusedError as error:
        raise RequestInvalidError([FieldProblem("candidate_features", str(error))]) from None
    return {"context": context, "item": items, "candidate": candidate}


def _missing(encoder: FeatureEncoder, query: RankQuery, fetched: FetchedFeatures) -> tuple[str, ...]:
    """Names of the model's user, context and candidate fields that nobody gave a value for."""
    user = fetched.user or {}
    absent = [name for name in encoder.views["user"].names if user.get(name) is None and name not in fetched.user_stale]
    absent += [name for name in encoder.views["context"].names if query.context.get(name) is None]
    absent += [name for name in encoder.views["candidate"].names if name not in query.candidate_features]
    return tuple(sorted(absent))


def _stale(encoder: FeatureEncoder, query: RankQuery, fetched: FetchedFeatures) -> tuple[str, ...]:
    """Names of the model's user and item fields whose stored value has expired and that the request did not send itself."""
    stale = encoder.views["user"].names & set(fetched.user_stale)
    if fetched.items_stale:
        own = encoder.views["item"].names - {encoder.item_key} - query.candidate_features.keys()
        stale |= own & set(fetched.items_stale)
    return tuple(sorted(stale))
