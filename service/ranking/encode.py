"""Features of one request to the inputs of the model that its arm named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from feature_store.encoding.encoder import HISTORY_INPUT, VIEWS, Block, FeatureEncoder
from feature_store.encoding.values import RawValue, ValueRefusedError
from models.manifest import ITEM_PART
from service.errors import FieldProblem, RequestInvalidError
from service.ranking.ports import FetchedFeatures
from service.ranking.query import RankQuery
from service.scoring.batch import ScoringRequest

USER_VALUE_REFUSED = "user_value_refused"

_NO_FIELDS: frozenset[str] = frozenset()
_INPUTS = {view: (f"{view}_categories", f"{view}_numbers") for view in VIEWS}


class EncodedQuery(msgspec.Struct, frozen=True, gc=False):
    """Model inputs, and the fields that were defaulted: each is named by one of ``missing``, ``stale``, ``refused``."""

    request: ScoringRequest
    history: Sequence[str]
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    refused: tuple[str, ...]
    faults: tuple[str, ...]


def encode_query(
    encoder: FeatureEncoder,
    query: RankQuery,
    fetched: FetchedFeatures,
    *,
    uses_history: bool,
    attention: bool,
    item_inputs: bool = False,
) -> EncodedQuery:
    """Encode user, context, candidates and history; the request's own values win over stored ones.

    The item part that was fetched stands in for the items' encoded features, unless the request has values of its own for
    them; with ``item_inputs`` (for a model whose collapsed form reads both) it stands beside them.

    Raises:
        RequestInvalidError: a value in ``context`` or ``candidate_features`` is not of its field's kind.
    """
    user, refused = _encode_user(encoder, fetched.user)
    history = query.history if query.history is not None else fetched.history_items
    inputs: dict[str, np.ndarray] = {}
    _add(inputs, "user", user)
    _add(inputs, "context", _encode_context(encoder, query))
    _add_items(inputs, encoder, query, fetched, beside=item_inputs)
    if encoder.views["candidate"].names:
        _add(inputs, "candidate", _encode_candidates(encoder, query))
    if uses_history:
        inputs[HISTORY_INPUT] = encoder.encode_history((history,))
    return EncodedQuery(
        ScoringRequest(inputs=inputs, rows=len(query.candidates), want_attention=attention),
        history[-encoder.history_length :],
        missing=_missing(encoder, query, fetched),
        stale=_stale(encoder, query, fetched),
        refused=refused,
        faults=(USER_VALUE_REFUSED,) if refused else (),
    )


def _add(inputs: dict[str, np.ndarray], view: str, block: Block) -> None:
    """Name the parts of a view's block; a part without columns is no input."""
    categories, numbers = _INPUTS[view]
    if block.categories.shape[1]:
        inputs[categories] = block.categories
    if block.numbers.shape[1]:
        inputs[numbers] = block.numbers


def _add_items(
    inputs: dict[str, np.ndarray], encoder: FeatureEncoder, query: RankQuery, fetched: FetchedFeatures, *, beside: bool
) -> None:
    sent = query.candidate_features
    own = encoder.views["item"].names & sent.keys() if sent else _NO_FIELDS
    part = None if own else fetched.item_part
    if part is not None:
        inputs[ITEM_PART] = part  # type: ignore[assignment]  # an array at the last moment
    if part is None or beside:
        _add(inputs, "item", _with_own_values(encoder, query, fetched.items) if own else fetched.items)


def _with_own_values(encoder: FeatureEncoder, query: RankQuery, items: Block) -> Block:
    try:
        return encoder.views["item"].replace(items, query.candidate_features)
    except ValueRefusedError as error:
        raise RequestInvalidError([FieldProblem("candidate_features", str(error))]) from None


def _encode_user(encoder: FeatureEncoder, values: Mapping[str, RawValue] | None) -> tuple[Block, tuple[str, ...]]:
    """The user's row and the fields that do not take their stored values any more.

    Those are the store's fault, not the caller's: each alone is defaulted.
    """
    view = encoder.views["user"]
    if not values:
        return view.defaults(1), ()
    try:
        return view.encode_one(values), ()
    except ValueRefusedError:
        refused = view.refused(values)
    sound = {name: value for name, value in values.items() if name not in refused}
    return view.encode_one(sound), refused


def _encode_context(encoder: FeatureEncoder, query: RankQuery) -> Block:
    """What the caller sent: a refused value is the caller's to mend."""
    view = encoder.views["context"]
    if not query.context:
        return view.defaults(1)
    try:
        return view.encode_one(query.context)
    except ValueRefusedError as error:
        raise RequestInvalidError([FieldProblem("context", str(error))]) from None


def _encode_candidates(encoder: FeatureEncoder, query: RankQuery) -> Block:
    view, count = encoder.views["candidate"], len(query.candidates)
    if not query.candidate_features or view.names.isdisjoint(query.candidate_features):
        return view.defaults(count)
    try:
        return view.encode(query.candidate_features, count)
    except ValueRefusedError as error:
        raise RequestInvalidError([FieldProblem("candidate_features", str(error))]) from None


def _missing(encoder: FeatureEncoder, query: RankQuery, fetched: FetchedFeatures) -> tuple[str, ...]:
    """Names of the model's user, context and candidate fields that nobody gave a value for."""
    views, context, sent = encoder.views, query.context, query.candidate_features
    user = fetched.user or {}
    absent: list[str] = []
    # Mostly nothing is: then a look at all values of a view at once is all that is done.
    if None in map(user.get, views["user"].names):
        stale = fetched.user_stale
        absent += [name for name in views["user"].names if user.get(name) is None and name not in stale]
    if None in map(context.get, views["context"].names):
        absent += [name for name in views["context"].names if context.get(name) is None]
    if views["candidate"].names:
        absent += views["candidate"].names - sent.keys()
    return tuple(sorted(absent)) if absent else ()


def _stale(encoder: FeatureEncoder, query: RankQuery, fetched: FetchedFeatures) -> tuple[str, ...]:
    """Names of the model's user and item fields whose stored value has expired and that the request did not send itself."""
    if not fetched.user_stale and not fetched.items_stale:
        return ()
    stale = encoder.views["user"].names & set(fetched.user_stale)
    if fetched.items_stale:
        own = encoder.views["item"].names - {encoder.item_key} - query.candidate_features.keys()
        stale |= own & set(fetched.items_stale)
    return tuple(sorted(stale))
