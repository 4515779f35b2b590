"""The use case with stand-ins for its neighbours: what an answer says when they are slow, lost, wrong or full."""

import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from feature_store.encoding.categories import CategoryColumn, VocabularyIds
from feature_store.encoding.encoder import Block, FeatureEncoder, ViewEncoder
from feature_store.encoding.numbers import NumberColumn
from service.errors import RequestInvalidError
from service.experiments.params import Params
from service.experiments.plan import ExperimentPlan
from service.experiments.plan_source import ActivePlan
from service.ranking.ports import Snapshot
from service.ranking.query import RankQuery
from service.ranking.ranker import Ranker, known_fields
from service.ranking.stages import StageClock
from service.scoring.batch import Scored, Scores
from service.scoring.errors import DeadlinePassedError, OverloadedError, ScorerClosedError, ScoringFailedError

NO_FIELDS = ViewEncoder((), ())


def category(name: str, terms: list[str]) -> CategoryColumn:
    return CategoryColumn(name, VocabularyIds(terms), slots=1, multiple=False)


ENCODER = FeatureEncoder(
    views={
        "user": ViewEncoder((category("country", ["ch", "de"]),), ()),
        "context": ViewEncoder((category("device", ["phone"]),), ()),
        "item": ViewEncoder((category("item_id", ["a", "b", "c", "d"]),), ()),
        "candidate": ViewEncoder((), (NumberColumn("position", "none", fill=1.0, shift=0.0, scale=1.0),)),
    },
    item_key="item_id",
    history_length=3,
)


PRICED = FeatureEncoder(
    views={
        **ENCODER.views,
        "item": ViewEncoder(ENCODER.views["item"].categories, (NumberColumn("price", "none", fill=0.0, shift=0.0, scale=1.0),)),
    },
    item_key="item_id",
    history_length=3,
)


@dataclass
class StubModel:
    """Scores by a table of item ids; remembers what it was given."""

    scores: dict[int, float] = field(default_factory=dict)
    failure: Exception | None = None
    name: str = "stub"
    version: int = 3
    digest: str = "d" * 64
    encoder: FeatureEncoder = ENCODER
    score_names: tuple[str, ...] = ("ctr", "cvr")
    uses_history: bool = True
    has_attention: bool = True
    item_table: object = None
    reads_items_beside_table: bool = False
    seen: list = field(default_factory=list)

    async def score(self, request, deadline):
        self.seen.append((request, deadline))
        if self.failure is not None:
            raise self.failure
        ids = request.inputs["item_categories"][:, 0].tolist()
        ctr = np.array([self.scores.get(each, 0.0) for each in ids], dtype=np.float32)
        values = {"ctr": ctr, "cvr": -ctr}
        if request.want_attention:
            values["attention"] = np.tile(np.array([0.5, 0.3, 0.2], dtype=np.float32), (request.rows, 1))
        return Scored(Scores(values), 1.5, 2.5)


@dataclass
class StubFetched:
    items: Block
    user: dict | None = field(default_factory=lambda: {"country": "ch"})
    user_stale: tuple = ()
    user_written_at: float | None = 90.0
    history_items: list = field(default_factory=lambda: ["a", "b"])
    history_written_at: float | None = 95.0
    history_version: int | None = 7
    unknown_items: int = 0
    stale_items: int = 0
    items_stale: tuple = ()
    item_part: object = None
    encoding_ms: float = 0.0
    unavailable: str | None = None
    faults: tuple = ()


@dataclass
class StubFeatures:
    changes: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    tables: list = field(default_factory=list)

    async def fetch(self, user_id, item_ids, encoder, timeout_s, *, item_table=None):
        self.tables.append(item_table)
        self.asked.append((user_id, tuple(item_ids), timeout_s))
        items = encoder.views["item"].encode({"item_id": list(item_ids)}, len(item_ids))
        return StubFetched(items=items, **self.changes)


class Holder:
    def __init__(self, model, params=None):
        models = {"stub@3": model}
        active = ActivePlan(ExperimentPlan(params or Params("stub@3")), 5, "digest", 0.0, 0.0, None)
        self.snapshot = Snapshot(active, models, known_fields(models))


class Observer:
    def __init__(self):
        self.answers = []

    def answered(self, answer, candidates):
        self.answers.append((answer, candidates))


def ranker(model, features=None, params=None, observer=None):
    return Ranker(
        snapshots=Holder(model, params),
        features=features or StubFeatures(),
        observer=observer or Observer(),
        store_timeout_s=0.05,
        wall_clock=lambda: 100.0,
    )


def query(**changes):
    asked = {"request_id": "r", "user_id": "u", "candidates": ("a", "b", "c", "d"), "deadline": time.monotonic() + 10}
    return RankQuery(**{**asked, **changes})


async def answer_of(model, features=None, params=None, **changes):
    return await ranker(model, features, params).rank(query(**changes), StageClock())


async def test_best_first_and_equal_scores_in_input_order():
    answer = await answer_of(StubModel({2: 0.1, 3: 0.9, 4: 0.1, 5: 0.5}))
    assert answer.order == [1, 3, 0, 2]
    assert answer.scores["ctr"] == pytest.approx([0.9, 0.5, 0.1, 0.1])
    assert answer.scores["cvr"] == pytest.approx([-0.9, -0.5, -0.1, -0.1])
    assert answer.generation == 5
    assert answer.degraded is None


async def test_the_arms_score_ranks():
    answer = await answer_of(StubModel({2: 0.1, 3: 0.9, 4: 0.2, 5: 0.5}), params=Params("stub@3", score="cvr"))
    assert answer.ranked_by == "cvr"
    assert answer.order == [0, 2, 3, 1]


@pytest.mark.parametrize(("asked", "by_arm", "count"), [(None, None, 4), (2, None, 2), (None, 3, 3), (1, 3, 1), (9, None, 4)])
async def test_top_k_of_the_request_wins_over_the_arms(asked, by_arm, count):
    answer = await answer_of(StubModel(), params=Params("stub@3", top_k=by_arm), top_k=asked)
    assert len(answer.order) == count


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (DeadlinePassedError("late"), "deadline"),
        (ScoringFailedError("nan"), "scoring_failed"),
        (ScorerClosedError("closed"), "stopping"),
    ],
)
async def test_what_cannot_be_scored_is_answered_in_input_order_without_any_score(failure, reason):
    answer = await answer_of(StubModel({2: 0.1, 3: 0.9}, failure=failure), top_k=3)
    assert answer.order == [0, 1, 2]
    assert answer.scores is None
    assert (answer.degraded.level, answer.degraded.reason) == ("input_order", reason)
    assert (answer.degraded.scored, answer.degraded.total) == (0, 4)


async def test_a_full_queue_is_refused_not_degraded():
    with pytest.raises(OverloadedError):
        await answer_of(StubModel(failure=OverloadedError("full", retry_after_s=1)))


async def test_a_lost_store_is_scored_from_defaults_and_told():
    features = StubFeatures({"user": None, "history_items": [], "unavailable": "timeout", "user_written_at": None})
    answer = await answer_of(StubModel({3: 1.0}), features)
    assert answer.order[0] == 1
    assert (answer.degraded.level, answer.degraded.reason) == ("default_features", "timeout")
    assert answer.freshness.missing == ("country", "device", "position")
    assert answer.freshness.user_known is None


async def test_a_stored_value_that_no_longer_fits_is_a_fault_of_the_store_not_of_the_caller():
    answer = await answer_of(StubModel(), StubFeatures({"user": {"country": 1.5}}))
    assert (answer.degraded.level, answer.degraded.reason) == ("default_features", "user_value_refused")
    assert (answer.freshness.refused, answer.freshness.stale) == (("country",), ())
    assert answer.freshness.missing == ("device", "position")


async def test_expired_fields_are_told_as_stale_and_not_as_missing_and_do_not_degrade():
    answer = await answer_of(StubModel(), StubFeatures({"user": {}, "user_stale": ("country", "of_another_model")}))
    freshness = answer.freshness
    assert (freshness.stale, freshness.missing, freshness.refused) == (("country",), ("device", "position"), ())
    assert (freshness.user_known, freshness.user_age_ms, answer.degraded) == (True, 10_000, None)


async def test_expired_item_fields_are_told_too_unless_the_request_sends_them_or_no_model_has_them():
    changes = {"user_stale": ("country",), "user": {}, "items_stale": ("item_id", "of_another_model", "price")}
    model = StubModel(encoder=PRICED)
    answer = await answer_of(model, StubFeatures(changes))
    assert (answer.freshness.stale, answer.degraded) == (("country", "price"), None)
    sent = {"candidate_features": {"price": [1.0, 2.0, 3.0, 4.0]}}
    assert (await answer_of(model, StubFeatures(changes), **sent)).freshness.stale == ("country",)


async def test_the_store_gets_no_more_time_than_the_request_has():
    features = StubFeatures()
    await answer_of(StubModel(), features, deadline=time.monotonic() + 0.01)
    await answer_of(StubModel(), features, deadline=time.monotonic() - 1)
    await answer_of(StubModel(), features)
    timeouts = [timeout_s for _, _, timeout_s in features.asked]
    assert 0 <= timeouts[0] <= 0.01
    assert timeouts[1:] == [0.0, 0.05]


async def test_what_the_request_sends_reaches_the_model():
    model = StubModel()
    sent = {"context": {"device": "phone"}, "candidate_features": {"position": [1, 2, 3, 4]}, "history": ("d", "nope")}
    answer = await answer_of(model, **sent)
    inputs = model.seen[0][0].inputs
    assert inputs["context_categories"].tolist() == [[2]]
    assert inputs["candidate_numbers"].tolist() == [[1], [2], [3], [4]]
    assert inputs["history"].tolist() == [[5, 1, 0]]
    assert answer.freshness.history_age_ms is None
    assert answer.freshness.missing == ()


async def test_freshness_tells_ages_and_versions():
    freshness = (await answer_of(StubModel())).freshness
    assert (freshness.user_age_ms, freshness.history_age_ms) == (10_000, 5_000)
    assert (freshness.history_length, freshness.history_version) == (2, 7)


@pytest.mark.parametrize(("wanted", "level"), [(None, None), (7, None), (8, "stale_history")])
async def test_a_history_behind_the_asked_version_is_told(wanted, level):
    degraded = (await answer_of(StubModel(), min_history_version=wanted)).degraded
    assert (degraded.level if degraded else None) == level


BEHIND = {"history_version": 7}
UNREAD = {"history_version": None, "history_items": []}


@pytest.mark.parametrize(
    ("changes", "failure", "reason", "sent", "behind"),
    [
        (BEHIND, None, "history_version_behind", {}, True),
        ({**BEHIND, "faults": ("item_corrupt",)}, None, "item_corrupt", {}, True),
        ({**BEHIND, "user": {"country": 1.5}}, None, "user_value_refused", {}, True),
        ({**UNREAD, "faults": ("history_corrupt",)}, None, "history_corrupt", {}, True),
        ({**UNREAD, "unavailable": "timeout"}, None, "timeout", {}, True),
        (BEHIND, DeadlinePassedError(), "deadline", {}, True),
        ({"history_version": 8, "faults": ("item_corrupt",)}, None, "item_corrupt", {}, False),
        ({"history_version": 8}, None, None, {}, False),
        (BEHIND, None, None, {"history": ("a",)}, False),
        (BEHIND, None, None, {"min_history_version": None}, False),
    ],
)
async def test_a_history_that_is_behind_is_told_whatever_else_went_wrong(changes, failure, reason, sent, behind):
    answer = await answer_of(StubModel(failure=failure), StubFeatures(changes), **{"min_history_version": 8, **sent})
    assert (answer.degraded.reason if answer.degraded else None) == reason
    assert answer.freshness.history_behind is behind


async def test_attention_is_cut_to_the_history_and_follows_the_order():
    answer = await answer_of(StubModel({3: 1.0}), explain_attention=True)
    assert answer.attention_history == ["a", "b"]
    assert answer.attention == [[pytest.approx(0.5), pytest.approx(0.3)]] * 4


@pytest.mark.parametrize(
    ("sent", "derived"),
    [
        ({}, True),
        ({"context": {"device": "phone"}}, True),
        ({"candidate_features": {"position": [1, 2, 3, 4]}}, True),
        ({"candidate_features": {"price": [1.0, 2.0, 3.0, 4.0]}}, False),
        ({"explain_attention": True}, False),
    ],
)
async def test_rows_derived_from_stored_items_are_asked_for_unless_the_request_needs_the_items_inputs(sent, derived):
    features, table = StubFeatures(), object()
    await answer_of(StubModel(encoder=PRICED, item_table=table), features, **sent)
    assert features.tables == [table if derived else None]


async def test_a_model_that_cannot_explain_needs_no_inputs_for_it():
    features, table = StubFeatures(), object()
    await answer_of(StubModel(item_table=table, has_attention=False), features, explain_attention=True)
    assert features.tables == [table]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"context": {"colour": "x"}}, "context.colour"),
        ({"candidate_features": {"colour": ["x"] * 4}}, "candidate_features.colour"),
        ({"candidate_features": {"item_id": ["b", "a", "a", "a"]}}, "candidate_features.item_id"),
        ({"candidate_features": {"position": [1]}}, "candidate_features.position"),
        ({"candidate_features": {"position": ["first", 1, 1, 1]}}, "candidate_features"),
        ({"context": {"device": 1.5}}, "context"),
        ({"overrides": {"nothing": "arm"}}, "overrides"),
    ],
)
async def test_what_does_not_fit_is_named(sent, field):
    with pytest.raises(RequestInvalidError) as caught:
        await answer_of(StubModel(), **sent)
    assert [each.field for each in caught.value.problems] == [field]


async def test_a_new_plan_is_followed_by_the_next_request():
    first, second = StubModel({2: 1.0}), StubModel({5: 1.0})
    holder, observer = Holder(first), Observer()
    changing = Ranker(snapshots=holder, features=StubFeatures(), observer=observer, store_timeout_s=0.05)
    assert (await changing.rank(query(), StageClock())).order[0] == 0
    holder.snapshot = Holder(second, Params("stub@3", top_k=2)).snapshot
    assert (await changing.rank(query(), StageClock())).order == [3, 0]


async def test_encoding_within_the_fetch_is_booked_as_encoding_and_the_run_as_scoring():
    clock = StageClock()
    answer = await ranker(StubModel(), StubFeatures({"encoding_ms": 1e3})).rank(query(), clock)
    assert list(answer.timings_ms) == ["assign", "fetch", "encode", "queue", "score"]
    assert (answer.timings_ms["fetch"], answer.timings_ms["queue"], answer.timings_ms["score"]) == (0.0, 0.0, 2.5)
    assert answer.timings_ms["encode"] >= 1e3


async def test_every_answer_is_observed_once():
    observer = Observer()
    await ranker(StubModel(), observer=observer).rank(query(), StageClock())
    await ranker(StubModel(failure=DeadlinePassedError("late")), observer=observer).rank(query(), StageClock())
    assert [candidates for _, candidates in observer.answers] == [4, 4]


async def test_a_form_that_reads_items_beside_their_part_is_given_both():
    model = StubModel(item_table=object(), reads_items_beside_table=True)
    await answer_of(model, StubFeatures(changes={"item_part": np.ones((3, 2), np.float32)}))
    ((request, _),) = model.seen
    assert {"item_part", "item_categories"} <= set(request.inputs)
