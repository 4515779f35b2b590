"""The scorer's short ways say what the long ones say: what fits a form, what is fed, which scores are finite."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.manifest import GraphInput, GraphOutput
from service.scoring.batch import ScoringRequest, check_request
from service.scoring.errors import ScoringFailedError
from service.scoring.scorer import Form, Forms, Scorer

INPUTS = (
    GraphInput(name="user_numbers", dtype="float32", axis="users", width=2),
    GraphInput(name="history", dtype="int32", axis="users"),
    GraphInput(name="item_categories", dtype="int32", axis="rows", width=3),
    GraphInput(name="item_price", dtype="float32", axis="rows"),
)


class Told:
    """A graph whose scores are what the test says; keeps its feeds."""

    def __init__(self, scores):
        self.scores = np.array(scores, np.float32)
        self.fed = None

    def run(self, outputs, feeds):
        self.fed = feeds
        return dict.fromkeys(outputs, self.scores)


class Names:
    score_names = ("ctr",)
    outputs = (GraphOutput(name="ctr", meaning="probability"),)


def request(rows, **changes):
    inputs = {
        "user_numbers": np.zeros((1, 2), np.float32),
        "history": np.zeros(1, np.int32),
        "item_categories": np.zeros((rows, 3), np.int32),
        "item_price": np.zeros(rows, np.float32),
    }
    return ScoringRequest({**inputs, **changes}, rows)


shapes = st.sampled_from([(), (0,), (1,), (2,), (3,), (1, 1), (1, 2), (2, 2), (1, 3), (2, 3), (3, 3), (2, 3, 1)])
arrays = st.builds(np.zeros, shapes, st.sampled_from(["<i4", ">i4", "<f4", ">f4", "<i8", "<f8", "u4", "bool"]))


def refusal(check):
    try:
        check()
    except ScoringFailedError as error:
        return str(error)
    return None


@settings(deadline=None, max_examples=300)
@given(st.integers(-1, 3), st.dictionaries(st.sampled_from([each.name for each in INPUTS]), st.none() | arrays, max_size=4))
def test_a_form_refuses_what_check_request_refuses_in_its_words(rows, changes):
    asked = request(max(rows, 0), **changes)
    inputs = {name: array for name, array in asked.inputs.items() if array is not None}
    asked = ScoringRequest(inputs, rows)
    form = Form(Told([]), INPUTS)
    assert refusal(lambda: form.check(asked)) == refusal(lambda: check_request(asked, INPUTS))


@pytest.mark.parametrize("name", [each.name for each in INPUTS])
@pytest.mark.parametrize("dtype", ["<i8", ">i4", "<f8", ">f4", "u4"])
def test_a_form_refuses_the_right_shape_of_a_wrong_type(name, dtype):
    asked = request(2)
    with pytest.raises(ScoringFailedError, match=f"input {name}: "):
        Form(Told([]), INPUTS).check(request(2, **{name: asked.inputs[name].astype(dtype)}))


@pytest.mark.parametrize("surplus", [{}, {"unused": np.zeros(7)}])
def test_the_graph_is_fed_what_it_reads_and_nothing_else(surplus):
    graph, row_user = Told([0.5, 0.25]), GraphInput(name="row_user", dtype="int32", axis="rows")
    asked = request(2, **surplus)
    (scores,) = Scorer(Forms(Form(graph, INPUTS)), Names)([asked])
    assert scores.values["ctr"].tolist() == [0.5, 0.25]
    assert graph.fed == {each.name: asked.inputs[each.name] for each in INPUTS}
    Scorer(Forms(Form(graph, (*INPUTS, row_user))), Names)([asked])
    assert set(graph.fed) == {each.name for each in INPUTS} | {"row_user"}
    assert graph.fed["row_user"].tolist() == [0, 0]
    assert graph.fed["row_user"].dtype == np.int32


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 39), st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45])), max_size=4),
)
def test_scores_pass_exactly_if_all_are_finite_however_large(rows, put):
    values = np.linspace(-1, 1, rows, dtype=np.float32)
    for place, value in put:
        values[place % rows] = value
    (outcome,) = Scorer(Forms(Form(Told(values), INPUTS)), Names)([request(rows)])
    assert isinstance(outcome, ScoringFailedError) is not np.isfinite(values).all()


@pytest.mark.parametrize("place", [0, 9_999])
def test_one_nan_among_many_is_seen(place):
    values = np.zeros(10_000, np.float32)
    values[place] = np.nan
    (outcome,) = Scorer(Forms(Form(Told(values), INPUTS)), Names)([request(10_000)])
    assert "output ctr: 1 of 10000 values are not finite" in str(outcome)
