"""The gate refuses every graph that was made from a wrong colouring."""

import numpy as np
import pytest

from models import agreement
from models.agreement import ParityError
from models.collapse import dependence, reading
from models.collapse.collapse import collapse
from models.collapse.graph_ir import Axis, Source
from models.collapse.parity import CollapseError, check_collapsed
from tests.models.collapse.graphs import Graph, requests
from tests.models.collapse.test_rewrites import attention, factorized

pytestmark = pytest.mark.usefixtures("any_gain")


def deep(seed=0):
    """A layer over all views, with a candidate's numbers and an item's."""
    graph = Graph(seed)
    graph.input("user_numbers", "users", 5)
    graph.input("item_numbers", "rows", 4)
    graph.input("candidate_numbers", "rows", 3)
    graph.row_user()
    joined = graph.op("Concat", graph.to_rows("user_numbers"), "item_numbers", "candidate_numbers", axis=1)
    graph.probability(graph.linear(graph.op("Relu", graph.linear(joined, 12, 8)), 8, 1))
    return graph


GRAPHS = {"deep": deep, "attention": attention, "factorized": lambda: factorized(candidate=1)}


def refuses(graph):
    model = graph.model()
    with pytest.raises(ParityError):
        check_collapsed(model, collapse(model, graph.inputs), graph.inputs, requests(graph.inputs))


@pytest.mark.parametrize("graph", [GRAPHS["deep"], GRAPHS["factorized"]])
def test_a_candidates_value_taken_for_the_items_is_refused(graph, monkeypatch):
    true = dependence.source_of
    monkeypatch.setattr(reading, "source_of", lambda each: Source.ITEM if true(each) is Source.CANDIDATE else true(each))
    refuses(graph())


@pytest.mark.parametrize("name", ["deep", "factorized"])
def test_an_items_value_taken_for_the_users_is_refused(name, monkeypatch):
    true = dependence.source_of
    monkeypatch.setattr(reading, "source_of", lambda each: Source.USER if true(each) is Source.ITEM else true(each))
    refuses(GRAPHS[name]())


@pytest.mark.parametrize("name", GRAPHS)
def test_a_pairs_value_taken_for_the_items_is_refused(name, monkeypatch):
    from models.collapse import columns

    def wrong(value):
        kind = dependence.kind_of(value)
        return dependence.Kind.ITEM if kind is dependence.Kind.LIVE and value.axis is Axis.ROWS else kind

    monkeypatch.setattr(columns, "kind_of", wrong)
    refuses(GRAPHS[name]())


@pytest.mark.parametrize("name", GRAPHS)
def test_weights_that_moved_are_refused(name):
    graph = GRAPHS[name]()
    model = graph.model()
    graphs = collapse(model, graph.inputs)
    largest = max(graphs.one_user.graph.initializer, key=lambda weight: len(weight.raw_data) * (weight.data_type == 1))
    numbers = np.frombuffer(largest.raw_data, np.float32).copy()
    largest.raw_data = (numbers * 1.01).tobytes()
    with pytest.raises(ParityError, match="differ"):
        check_collapsed(model, graphs, graph.inputs, requests(graph.inputs))


def test_a_right_graph_passes_and_its_differences_are_told():
    graph = deep()
    model = graph.model()
    differences = check_collapsed(model, collapse(model, graph.inputs), graph.inputs, requests(graph.inputs))
    assert differences.keys() == {f"{form}.{case}" for form in ("one_user", "many_users") for case in requests(graph.inputs)}
    assert max(differences.values()) < agreement.TOLERANCE


def test_no_case_is_no_proof():
    graph = deep()
    with pytest.raises(CollapseError, match="no case"):
        check_collapsed(graph.model(), collapse(graph.model(), graph.inputs), graph.inputs, {})


def test_a_logit_may_be_off_though_its_probability_is_not():
    near_zero = np.array([0.01, 0.5], np.float32)
    agreement.largest_difference("case", {"p": near_zero}, {"p": near_zero})
    with pytest.raises(ParityError, match="logit"):
        agreement.largest_difference("case", {"p": near_zero}, {"p": near_zero * np.array([1.0005, 1], np.float32)})


def test_a_nan_is_refused():
    values = np.array([0.5], np.float32)
    with pytest.raises(ParityError):
        agreement.largest_difference("case", {"p": values}, {"p": values * np.nan})
