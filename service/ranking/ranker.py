"""One request from query to answer: assign, fetch, encode, score, order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from service.errors import FieldProblem, RequestInvalidError
from service.experiments.assignment import Assigned, OverrideInvalidError, assign
from service.ranking.encode import EncodedQuery, encode_query
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
    """Answers queries from the snapshot in force. Stateless between requests."""

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

    async def rank(self, query: RankQuery, clock: StageClock) -> Answer:
        """Rank the candidates, or say why the answer is degraded.

        Raises:
            RequestInvalidError: unknown fields, lengths, or values that do not fit their fields.
            OverloadedError: the model's queue is full; no scoring was done.
        """
        snapshot = self._snapshots.snapshot
        _check_fields(query, snapshot)
        assigned = _assign(snapshot, query)
        model = snapshot.models[assigned.params.model]
        ranked_by = assigned.params.score or model.score_names[0]
        clock.lap("assign")
        fetched = await self._fetch(query, model)
        clock.lap("fetch")
        clock.book("fetch", max(0.0, clock.timings_ms["fetch"] - fetched.encoding_ms))
        encoded = encode_query(
            model.encoder,
            query,
            fetched,
            uses_history=model.uses_history,
            attention=query.explain_attention and model.has_attention,
        )
        clock.lap("encode")
        clock.book("encode", clock.timings_ms["encode"] + fetched.encoding_ms)
        scores, failure = await _score(model, encoded, query.deadline, clock)
        answer = Answer(
            order=_order(scores, ranked_by, len(query.candidates), query.top_k or assigned.params.top_k),
            ranked_by=ranked_by,
            scores=None,
            model=ModelUsed(model.name, model.version, model.digest),
            arms=_arms(assigned, snapshot),
            generation=snapshot.active.generation,
            freshness=self._freshness(query, fetched, encoded),
            degraded=_degraded(query, fetched, encoded, failure),
            timings_ms=clock.timings_ms,
        )
        answer = _with_scores(answer, scores, model, encoded)
        self._observer.answered(answer, len(query.candidates))
        return answer

    async def _fetch(self, query: RankQuery, model: ServableModel) -> FetchedFeatures:
        remaining = query.deadline - time.monotonic()
        timeout_s = max(0.0, min(self._store_timeout_s, remaining))
        return await self._features.fetch(query.user_id, query.candidates, model.encoder, timeout_s)

    def _freshness(self, query: RankQuery, fetched: FetchedFeatures, encoded: EncodedQuery) -> Freshness:
        now = self._wall_clock()
        from_request = query.history is not None
        return Freshness(
            user_known=None if fetched.unavailable else fetched.user is not None,
            user_age_ms=_age_ms(now, fetched.user_written_at),
            history_length=len(encoded.history),
            history_age_ms=None if from_request else _age_ms(now, fetched.history_written_at),
            history_version=None if from_request else fetched.history_version,
            history_behind=_history_behind(query, fetched),
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


def _assign(snapshot: Snapshot, query: RankQuery) -> Assigned:
    try:
        return assign(snapshot.active.plan, query.user_id, query.overrides)
    except OverrideInvalidError as error:
        raise RequestInvalidError([FieldProblem("overrides", str(error))]) from None


async def _score(
    model: ServableModel, encoded: EncodedQuery, deadline: float, clock: StageClock
) -> tuple[Scores | None, str | None]:
    """Scores, or None and the reason there are none."""
    try:
        scored = await model.score(encoded.request, deadline)
    except (DeadlinePassedError, ScoringFailedError, ScorerClosedError) as error:
        clock.lap("queue")
        return None, _FAILURES[type(error)]
    clock.lap("queue")
    # What the run did not take was waiting: for the run, and for the event loop after it.
    clock.book("queue", max(0.0, clock.timings_ms["queue"] - scored.score_ms))
    clock.book("score", scored.score_ms)
    return scored.scores, None


def _order(scores: Scores | None, ranked_by: str, count: int, top_k: int | None) -> list[int]:
    """Best first; equal scores keep the order they came in."""
    kept = count if top_k is None else min(top_k, count)
    if scores is None:
        return list(range(kept))
    order: list[int] = np.argsort(-scores.values[ranked_by], kind="stable")[:kept].tolist()
    return order


def _with_scores(answer: Answer, scores: Scores | None, model: ServableModel, encoded: EncodedQuery) -> Answer:
    if scores is None:
        return answer
    named = {name: scores.values[name][answer.order].tolist() for name in model.score_names}
    attention, history = _attention(scores, answer.order, encoded.history)
    return replace(answer, scores=named, attention=attention, attention_history=history)


def _attention(scores: Scores, order: list[int], history: Sequence[str]) -> tuple[list[list[float]] | None, list[str] | None]:
    if "attention" not in scores.values:
        return None, None
    weights = scores.values["attention"][order, : len(history)]
    return weights.tolist(), list(history)


def _arms(assigned: Assigned, snapshot: Snapshot) -> tuple[ArmTaken, ...]:
    return tuple(
        ArmTaken(each.layer, each.experiment, each.arm, each.bucket, snapshot.active.generation, each.forced)
        for each in assigned.assignments
    )


def _degraded(query: RankQuery, fetched: FetchedFeatures, encoded: EncodedQuery, failure: str | None) -> Degraded | None:
    """The worst thing that happened to this answer, or None. Of a history that is behind ``Freshness`` tells in any case."""
    total = len(query.candidates)
    if failure is not None:
        return Degraded("input_order", failure, 0, total)
    if fetched.unavailable is not None:
        return Degraded("default_features", fetched.unavailable, total, total)
    faults = (*fetched.faults, *encoded.faults)
    if faults:
        return Degraded("default_features", faults[0], total, total)
    if _history_behind(query, fetched):
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
