"""One request from query to answer: assign, fetch, encode, score, order."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from service.errors import FieldProblem, RequestInvalidError
from service.experiments.assignment import Assigned, OverrideInvalidError, PreparedPlan
from service.experiments.plan import ExperimentPlan
from service.ranking.encode import EncodedQuery, encode_query
from service.ranking.order import best_first
from service.ranking.ports import FeatureSource, FetchedFeatures, RankObserver, ServableModel, Snapshot, SnapshotSource
from service.ranking.query import Answer, ArmTaken, Degraded, Freshness, ModelUsed, RankQuery
from service.ranking.stages import StageClock
from service.scoring.batch import Scores
from service.scoring.errors import DeadlinePassedError, ScorerClosedError, ScoringFailedError

_FAILURES: Mapping[type[Exception], str] = {
    DeadlinePassedError: "deadline",
    ScoringFailedError: "scoring_failed",
    ScorerClosedError: "stopping",
}


class Ranker:
    """Answers queries from the snapshot in force. Between requests it keeps nothing but the plan prepared."""

    def __init__(
        self,
        *,
        snapshots: SnapshotSource,
        features: FeatureSource,
        observer: RankObserver,
        store_timeout_s: float,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._snapshots = snapshots
        self._features = features
        self._observer = observer
        self._store_timeout_s = store_timeout_s
        self._wall_clock = wall_clock
        self._prepared: PreparedPlan | None = None

    async def rank(self, query: RankQuery, clock: StageClock) -> Answer:
        """Rank the candidates, or say why the answer is degraded.

        Raises:
            RequestInvalidError: unknown fields, lengths, or values that do not fit their fields.
            OverloadedError: the model's queue is full; no scoring was done.
        """
        snapshot = self._snapshots.snapshot
        if query.candidate_features or not query.context.keys() <= snapshot.field_names:
            _check_fields(query, snapshot)
        assigned = self._assign(snapshot.active.plan, query)
        model = snapshot.models[assigned.params.model]
        names = model.score_names
        ranked_by = assigned.params.score or names[0]
        clock.lap("assign")
        fetched = await self._fetch(query, model)
        clock.lap("fetch", fetched.encoding_ms)
        attention = query.explain_attention and model.has_attention
        encoded = encode_query(
            model.encoder,
            query,
            fetched,
            uses_history=model.uses_history,
            attention=attention,
            item_inputs=model.reads_items_beside_table,
        )
        clock.lap("encode", -fetched.encoding_ms)
        scores, failure = await _score(model, encoded, query.deadline, clock)
        rows = encoded.request.rows
        order, named = _ordered(scores, ranked_by, names, rows, query.top_k or assigned.params.top_k)
        weights, history = _attention(scores, order, encoded.history)
        behind = _history_behind(query, fetched)
        generation = snapshot.active.generation
        answer = Answer(
            order=order,
            ranked_by=ranked_by,
            scores=named,
            model=ModelUsed(model.name, model.version, model.digest),
            arms=_arms(assigned, generation),
            generation=generation,
            freshness=self._freshness(query, fetched, encoded, behind=behind),
            degraded=_degraded(rows, fetched, encoded, failure, behind=behind),
            timings_ms=clock.timings_ms,
            attention=weights,
            attention_history=history,
        )
        self._observer.answered(answer, rows)
        return answer

    def _assign(self, plan: ExperimentPlan, query: RankQuery) -> Assigned:
        prepared = self._prepared
        if prepared is None or prepared.plan is not plan:
            prepared = self._prepared = PreparedPlan(plan)
        try:
            return prepared.assign(query.user_id, query.overrides)
        except OverrideInvalidError as error:
            raise RequestInvalidError([FieldProblem("overrides", str(error))]) from None

    def _fetch(self, query: RankQuery, model: ServableModel) -> Awaitable[FetchedFeatures]:
        remaining = query.deadline - time.monotonic()
        timeout_s = self._store_timeout_s if remaining > self._store_timeout_s else max(0.0, remaining)
        table = model.item_table
        if table is not None and _needs_item_inputs(query, model):
            table = None
        return self._features.fetch(query.user_id, query.candidates, model.encoder, timeout_s, item_table=table)

    def _freshness(self, query: RankQuery, fetched: FetchedFeatures, encoded: EncodedQuery, *, behind: bool) -> Freshness:
        now = self._wall_clock()
        from_request = query.history is not None
        return Freshness(
            user_known=None if fetched.unavailable else fetched.user is not None,
            user_age_ms=_age_ms(now, fetched.user_written_at),
            history_length=len(encoded.history),
            history_age_ms=None if from_request else _age_ms(now, fetched.history_written_at),
            history_version=None if from_request else fetched.history_version,
            history_behind=behind,
            unknown_candidates=fetched.unknown_items,
            stale_candidates=fetched.stale_items,
            missing=encoded.missing,
            stale=encoded.stale,
            refused=encoded.refused,
        )


def _check_fields(query: RankQuery, snapshot: Snapshot) -> None:
    problems = [
        FieldProblem(f"{where}.{name}", "no loaded model knows a field of this name")
        for where, names in (("context", query.context), ("candidate_features", query.candidate_features))
        for name in names
        if name not in snapshot.field_names
    ]
    problems += [
        FieldProblem(f"candidate_features.{name}", f"has {len(values)} values for {len(query.candidates)} candidates")
        for name, values in query.candidate_features.items()
        if name in snapshot.field_names and len(values) != len(query.candidates)
    ]
    if problems:
        raise RequestInvalidError(problems)


def _needs_item_inputs(query: RankQuery, model: ServableModel) -> bool:
    """Whether the items' own inputs must reach the graph: what was derived from stored ones is not of what was sent."""
    if query.explain_attention and model.has_attention:
        return True
    return bool(query.candidate_features) and not model.encoder.views["item"].names.isdisjoint(query.candidate_features)


async def _score(
    model: ServableModel, encoded: EncodedQuery, deadline: float, clock: StageClock
) -> tuple[Scores | None, str | None]:
    """Scores, or None and the reason there are none."""
    try:
        scored = await model.score(encoded.request, deadline)
    except (DeadlinePassedError, ScoringFailedError, ScorerClosedError) as error:
        clock.lap("queue")
        return None, _FAILURES[type(error)]
    # What the run did not take was waiting: for the run, and for the event loop after it.
    clock.lap("queue", scored.score_ms)
    clock.book("score", scored.score_ms)
    return scored.scores, None


def _ordered(
    scores: Scores | None, ranked_by: str, names: Sequence[str], rows: int, top_k: int | None
) -> tuple[list[int], dict[str, list[float]] | None]:
    """Places of the candidates, best first, equal scores as they came; and the named scores in that order."""
    kept = rows if top_k is None else min(top_k, rows)
    if scores is None:
        return list(range(kept)), None
    values = scores.values
    order = best_first(values[ranked_by], kept)
    return _listed(order), {name: _listed(values[name].take(order)) for name in names}


def _listed(column: npt.NDArray[Any]) -> list[Any]:
    listed: list[Any] = column.tolist()
    return listed


def _attention(
    scores: Scores | None, order: list[int], history: Sequence[str]
) -> tuple[list[list[float]] | None, list[str] | None]:
    if scores is None or "attention" not in scores.values:
        return None, None
    weights = scores.values["attention"][order, : len(history)]
    return weights.tolist(), list(history)


def _arms(assigned: Assigned, generation: int) -> tuple[ArmTaken, ...]:
    if not assigned.assignments:
        return ()
    return tuple(
        [ArmTaken(each.layer, each.experiment, each.arm, each.bucket, generation, each.forced) for each in assigned.assignments]
    )


def _degraded(
    total: int, fetched: FetchedFeatures, encoded: EncodedQuery, failure: str | None, *, behind: bool
) -> Degraded | None:
    """The worst thing that happened to this answer, or None. Of a history that is behind ``Freshness`` tells in any case."""
    if failure is not None:
        return Degraded("input_order", failure, 0, total)
    if fetched.unavailable is not None:
        return Degraded("default_features", fetched.unavailable, total, total)
    faults = fetched.faults or encoded.faults
    if faults:
        return Degraded("default_features", faults[0], total, total)
    if behind:
        return Degraded("stale_history", "history_version_behind", total, total)
    return None


def _history_behind(query: RankQuery, fetched: FetchedFeatures) -> bool:
    wanted = query.min_history_version
    return wanted is not None and query.history is None and (fetched.history_version or 0) < wanted


def _age_ms(now: float, then: float | None) -> int | None:
    return None if then is None else max(0, round((now - then) * 1e3))


def known_fields(models: Mapping[str, ServableModel]) -> frozenset[str]:
    """Every field that a request may send for some loaded model: context, per-candidate and item fields.

    Not the item's own key: a candidate is the item that its id names.
    """
    encoders = [model.encoder for model in models.values()]
    return frozenset(
        name
        for encoder in encoders
        for view in ("context", "candidate", "item")
        for name in encoder.views[view].names
        if name != encoder.item_key
    )
