"""The encoder beside the plain one that it took the place of: the same document, its keys in the same order."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.rank_call import RankCall
from service.api.rank_encoder import encode_answer
from service.ranking.query import Degraded, RankQuery
from service.ranking.stages import StageClock
from tests.service.api.rank_stand_ins import an_answer, document_before

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e-45, 1.0, float("nan")])
integer_ids = st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=8)
text_ids = st.lists(st.text('a"\\/é\N{SNOWMAN}0<', min_size=1, max_size=4), min_size=1, max_size=8)
score_names = st.lists(
    st.sampled_from(["click", "p like", "100%", 'a"b', "é", "id", "score", "name_0"]), unique=True, min_size=1
)


def a_call(ids):
    all_integers = all(isinstance(each, int) for each in ids)
    query = RankQuery(request_id="r", user_id="u", candidates=tuple(map(str, ids)), deadline=0.0)
    return RankCall(query, "u\N{SNOWMAN}", None if all_integers else ids)


@st.composite
def answers(draw):
    call = a_call(draw(integer_ids | text_ids | st.lists(st.integers(0, 9) | st.just("9"), min_size=1, max_size=5)))
    order = draw(st.permutations(range(len(call.query.candidates))))[: draw(st.integers(0, 8))]
    column = st.lists(numbers, min_size=len(order), max_size=len(order))
    kind = draw(st.sampled_from(["scored", "scored", "not scored", "attention"]))
    if kind == "not scored":
        return call, an_answer(order, degraded=Degraded("input_order", "deadline", 0, len(order)))
    scores = {name: draw(column) for name in draw(score_names)}
    if kind == "scored":
        return call, an_answer(order, scores)
    weights = [[0.5, draw(numbers)] for _ in order]
    return call, an_answer(order, scores, attention=weights, attention_history=["1", "é"])


@given(answers(), st.lists(st.floats(0, 1e5), min_size=2, max_size=2))
def test_an_answer_is_the_document_that_it_always_was(case, laps):
    call, answer = case
    clock = StageClock()
    clock.timings_ms.update(zip(("parse", "score"), laps, strict=True))
    document = json.loads(encode_answer(call, answer, clock))
    told = document["timings_ms"]
    assert list(told) == ["parse", "score", "respond", "total"]
    assert told["total"] >= 0
    before = document_before(call, answer, clock.timings_ms)
    del told["total"]
    assert repr(document) == repr(before)


@pytest.mark.parametrize("ids", [[1, "1"], ["1", "2"], [1, 2]])
def test_ids_are_answered_in_the_type_they_came_in(ids):
    document = json.loads(encode_answer(a_call(ids), an_answer([1, 0], {"click": [2.0, 1.0]}), StageClock()))
    assert [item["id"] for item in document["items"]] == ids[::-1]
