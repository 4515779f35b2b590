"""Each rewriting on a graph of a few nodes: what is left for each row. ``collapsed`` checks that the scores are the same."""

import numpy as np
import pytest

from models.collapse import reading
from models.collapse.collapse import collapse, form_inputs
from tests.models.collapse.graphs import Graph, collapsed, input_names, operators, products

pytestmark = pytest.mark.usefixtures("any_gain")


def two_sides(user=5, item=4, candidate=0):
    """A graph with a user, tiled to rows at once, an item and, with a width, a candidate."""
    graph = Graph()
    graph.input("user_numbers", "users", user)
    graph.input("item_numbers", "rows", item)
    if candidate:
        graph.input("candidate_numbers", "rows", candidate)
    graph.row_user()
    parts = [graph.to_rows("user_numbers"), "item_numbers", *(["candidate_numbers"] if candidate else [])]
    return graph, parts


def test_what_depends_on_no_input_is_folded():
    graph, (user, item) = two_sides()
    weight = graph.op("Slice", graph.normal(9, 20), graph.whole([3]), graph.whole([11]), graph.whole([1]))
    joined = graph.op("Concat", user, item, axis=1)
    graph.probability(graph.linear(graph.op("Relu", graph.op("MatMul", joined, weight)), 8, 1))
    graphs = collapsed(graph)
    assert "Slice" not in operators(graphs.item)
    assert products(graphs.item) == [(4, 8)]


def test_work_on_spread_values_of_users_is_done_on_users():
    graph, (user, item) = two_sides()
    tower = graph.linear(graph.op("Relu", graph.linear(user, 5, 6)), 6, 3)
    graph.probability(graph.op("Add", graph.linear(tower, 3, 1), graph.linear(item, 4, 1)))
    many = collapsed(graph).many_users
    gathers = [node for node in many.graph.node if node.op_type == "Gather"]
    assert len(gathers) == 1
    assert gathers[0].input[0] not in input_names(many)
    assert products(many) == [(6, 3), (5, 6), (3, 1)]


def test_a_layer_over_a_concatenation_is_split_by_input():
    graph, parts = two_sides(candidate=2)
    hidden = graph.op("Relu", graph.linear(graph.op("Concat", *parts, axis=1), 11, 8))
    graph.probability(graph.linear(hidden, 8, 1))
    graphs = collapsed(graph)
    assert graphs.item_width == 8
    assert products(graphs.one_user) == [(8, 1), (5, 8), (2, 8)]
    assert input_names(graphs.one_user) == {"user_numbers", "item_part", "candidate_numbers"}
    assert input_names(graphs.item) == {"item_numbers"}


def test_batch_normalization_goes_into_the_layers_before_it():
    graph, parts = two_sides()
    hidden = graph.batch_norm(graph.linear(graph.op("Concat", *parts, axis=1), 9, 8), 8)
    hidden = graph.batch_norm(graph.linear(graph.op("Relu", hidden), 8, 6, bias=False), 6)
    graph.probability(graph.linear(graph.op("Relu", hidden), 6, 1))
    graphs = collapsed(graph)
    assert graphs.item_width == 8
    for form in (graphs.one_user, graphs.many_users):
        assert not operators(form).keys() & {"BatchNormalization", "Mul"}


def test_a_normalized_value_that_is_also_read_as_it_is_keeps_one_layer():
    graph, parts = two_sides(candidate=3)
    x = graph.linear(graph.op("Concat", *parts, axis=1), 12, 8)
    gate = graph.op("Sigmoid", graph.batch_norm(x, 8))
    graph.probability(graph.linear(graph.op("Mul", x, gate), 8, 1))
    assert products(collapsed(graph).one_user).count((3, 8)) == 1


def test_normalized_inputs_are_normalized_on_their_own_sides():
    graph, parts = two_sides()
    joined = graph.op("Tanh", graph.batch_norm(graph.op("Concat", *parts, axis=1), 9))
    graph.probability(graph.linear(graph.op("Relu", graph.linear(joined, 9, 4)), 4, 1))
    assert "Tanh" in operators(collapsed(graph).item)
    assert collapsed(graph).item_width == 4


def factorized(*, candidate=0):
    """0.5 ((sum v)^2 - sum v^2) over one concatenation of fields, from ids that are tiled at once."""
    graph = Graph()
    graph.input("user_categories", "users", 3, "int32")
    graph.input("item_categories", "rows", 2, "int32")
    if candidate:
        graph.input("candidate_categories", "rows", candidate, "int32")
    graph.row_user()
    names = [graph.to_rows("user_categories"), "item_categories", *(["candidate_categories"] if candidate else [])]
    ids = graph.op("Concat", *names, axis=1)
    ids = graph.op("Add", ids, graph.constant(np.arange(5 + candidate) * 9, np.int32))
    vectors = graph.op("Gather", graph.normal(9 * (5 + candidate), 4), ids, axis=0)
    square = graph.op("Pow", graph.op("ReduceSum", vectors, graph.whole([1]), keepdims=0), graph.constant(2.0))
    squares = graph.op("ReduceSum", graph.op("Mul", vectors, vectors), graph.whole([1]), keepdims=0)
    pairs = graph.op("ReduceSum", graph.op("Sub", square, squares), graph.whole([1]), keepdims=1)
    graph.probability(graph.op("Mul", pairs, graph.constant(0.5)))
    return graph


def test_the_sums_of_a_factorization_machine_fall_apart():
    graphs = collapsed(factorized())
    # The item's vector (4) and its own term (1) are all that a candidate brings; one product with the user's vector is left.
    assert graphs.item_width == 5
    assert operators(graphs.one_user)["Gemm"] == 1
    assert input_names(graphs.one_user) == {"user_categories", "item_part"}


def test_a_candidate_field_of_a_factorization_machine_stays_live():
    graphs = collapsed(factorized(candidate=1))
    assert graphs.item_width == 5
    assert "candidate_categories" in input_names(graphs.one_user)


def attention(*, style="textbook", length=6, size=4, hidden=5):
    """DIN: the first layer over [c, h, c * h, c - h] of [rows, T, 4 d], masked softmax, weighted sum of the history."""
    graph = Graph()
    graph.input("history", "users", length, "int32")
    graph.input("item_categories", "rows", 2, "int32")
    graph.row_user()
    table = graph.normal(9, size)
    history = graph.to_rows("history")
    h, mask = graph.op("Gather", table, history, axis=0), graph.op("Greater", history, graph.constant(0, np.int32))
    c = graph.op("Gather", table, graph.op("Gather", "item_categories", graph.whole(0), axis=1), axis=0)
    repeated = graph.op("Expand", graph.op("Unsqueeze", c, graph.whole([1])), graph.whole([1, length, 1]))
    parts = [repeated, h, graph.op("Mul", repeated, h), graph.op("Sub", repeated, h)]
    x = graph.op("MatMul", graph.op("Concat", *parts, axis=-1), graph.normal(4 * size, hidden))
    x = graph.op("Relu", graph.op("Add", x, graph.normal(hidden)))
    scores = graph.op("Squeeze", graph.op("MatMul", x, graph.normal(hidden, 1)), graph.whole([-1]))
    scores = graph.op("Where", mask, scores, graph.constant(-1e30))
    weights = graph.op("Mul", graph.op("Softmax", scores, axis=-1), graph.op("Cast", mask, to=1))
    interest = graph.op("MatMul", graph.op("Unsqueeze", weights, graph.whole([1])), h)
    rows = graph.op("Concat", c, graph.op("Squeeze", interest, graph.whole([1])), axis=1)
    graph.probability(graph.linear(graph.op("Relu", graph.linear(rows, 2 * size, 7)), 7, 1))
    graph.output("attention", weights, length)
    return graph


def test_the_attention_layer_becomes_one_product_over_rows():
    one = collapsed(attention()).one_user
    # No value of [rows, T, d] is left: neither a concatenation over rows nor a product of the candidate and the history.
    assert operators(one).get("Mul", 0) == 1  # by the mask
    assert "Expand" not in operators(one)
    assert not any(node.op_type == "Concat" and node.attribute[0].i == 1 for node in one.graph.node)


def test_the_attention_layer_of_many_users_reads_a_quarter_of_its_input():
    assert products(collapsed(attention()).many_users)[0][0] < 16


def test_a_dot_product_of_two_towers_is_one_product():
    graph, (user, item) = two_sides()
    left, right = graph.linear(user, 5, 3), graph.linear(item, 4, 3)
    graph.probability(graph.op("ReduceSum", graph.op("Mul", left, right), graph.whole([1]), keepdims=1))
    graphs = collapsed(graph)
    assert graphs.item_width == 3
    assert "Mul" not in operators(graphs.one_user)


def test_a_cross_layer_leaves_no_product_with_the_users_or_the_items_half():
    graph, parts = two_sides()
    x0 = graph.op("Concat", *parts, axis=1)
    crossed = graph.op("Add", graph.op("Mul", x0, graph.linear(x0, 9, 1, bias=False)), x0)
    graph.probability(graph.linear(graph.op("Relu", graph.linear(crossed, 9, 3)), 3, 1))
    assert {size for size, _ in products(collapsed(graph).one_user)} == {5, 3}  # the user's values and the last layer's


def test_what_is_not_understood_stays_as_it_is():
    graph, parts = two_sides()
    joined = graph.op("Concat", *parts, axis=1)
    sorted_ = graph.op("TopK", joined, graph.whole([4]), outputs=2)[0]
    late = graph.op("Relu", graph.linear(joined, 9, 6))
    graph.probability(graph.linear(graph.op("Concat", sorted_, late, axis=1), 10, 1))
    graphs = collapsed(graph)
    assert "TopK" in operators(graphs.one_user)
    assert products(graphs.one_user)[:2] == [(10, 1), (5, 6)]


def test_a_barrier_over_the_item_alone_is_not_put_into_the_table():
    graph, (user, item) = two_sides()
    mixed = graph.op("CumSum", item, graph.constant(0, np.int64))  # along the rows: another batch gives other values
    hidden = graph.op("Add", graph.linear(mixed, 4, 3), graph.linear(user, 5, 3))
    graph.probability(graph.linear(graph.op("Relu", hidden), 3, 1))
    model = graph.model()
    graphs = collapse(model, graph.inputs)
    assert graphs is not None
    assert graphs.item is None or "CumSum" not in operators(graphs.item)
    assert "CumSum" in operators(graphs.one_user)


def test_ids_that_the_pair_compares_stay_inputs():
    graph = Graph()
    graph.input("history", "users", 5, "int32")
    graph.input("item_categories", "rows", 1, "int32")
    graph.row_user()
    seen = graph.op("Cast", graph.op("Equal", graph.to_rows("history"), "item_categories"), to=1)
    graph.probability(graph.linear(seen, 5, 1))
    graphs = collapsed(graph)
    assert graphs.item is None
    assert input_names(graphs.one_user) == {"history", "item_categories"}


def test_an_items_truth_value_is_read_from_the_table():
    graph, (user, item) = two_sides(user=4)
    known = graph.op("Greater", item, graph.constant(0.0))
    graph.probability(graph.linear(graph.op("Where", known, user, graph.constant(0.5)), 4, 1))
    assert collapsed(graph).item_width == 4


def test_a_table_that_would_be_too_wide_is_cut_nearer_to_the_inputs():
    graph, parts = two_sides(item=3)
    hidden = graph.op("Relu", graph.linear(graph.op("Concat", *parts, axis=1), 8, 16))
    graph.probability(graph.linear(hidden, 16, 1))
    assert collapsed(graph).item_width == 16
    assert collapsed(graph, max_item_width=8).item_width == 3
    narrowest = collapsed(graph, max_item_width=2)
    assert (narrowest.item, narrowest.item_width) == (None, 0)
    assert "item_numbers" in input_names(narrowest.one_user)


def test_outputs_of_the_user_or_the_item_alone_have_all_rows():
    graph, (user, item) = two_sides()
    graph.probability(graph.linear(user, 5, 1), "of_user")
    graph.probability(graph.linear(item, 4, 1), "of_item")
    collapsed(graph)


@pytest.mark.parametrize("value", ["summed over the rows", "another leading axis", "row_user as a number"])
def test_a_graph_that_cannot_be_kept_gives_none(value):
    graph, (user, item) = two_sides(user=4)
    x = graph.op("Add", item, user)
    if value == "summed over the rows":
        x = graph.op("Add", graph.op("ReduceSum", x, graph.whole([0]), keepdims=1), item)
    elif value == "another leading axis":
        x = graph.op("Reshape", x, graph.whole([4, -1]))
        x = graph.op("Reshape", graph.op("Transpose", x, perm=[1, 0]), graph.whole([-1, 4]))
    else:
        x = graph.op("Add", x, graph.op("Cast", graph.op("Unsqueeze", "row_user", graph.whole([1])), to=1))
    graph.probability(graph.linear(x, 4, 1))
    assert collapse(graph.model(), graph.inputs) is None


def test_the_manifests_inputs_of_a_form_are_told():
    graph, parts = two_sides()
    graph.probability(graph.linear(graph.op("Relu", graph.linear(graph.op("Concat", *parts, axis=1), 9, 8)), 8, 1))
    graphs = collapsed(graph)
    told = form_inputs(graphs.many_users, graph.inputs, graphs.item_width)
    assert [(each.name, each.axis, each.width) for each in told] == [
        ("user_numbers", "users", 5),
        ("item_part", "rows", 8),
        ("row_user", "rows", None),
    ]


def test_a_graph_too_large_for_onnxs_own_tools_stays_plain(monkeypatch):
    monkeypatch.setattr(reading, "_MOST_WEIGHT_BYTES", 100)
    graph, parts = two_sides()
    graph.probability(graph.linear(graph.op("Relu", graph.linear(graph.op("Concat", *parts, axis=1), 9, 8)), 8, 1))
    assert collapse(graph.model(), graph.inputs) is None
