"""What the collapse cannot take apart leaves the plain graph as it is: it never raises, and nothing random is folded."""

import pytest
from onnx import helper

from models.collapse.collapse import collapse
from tests.models.collapse.graphs import Graph, collapsed

pytestmark = pytest.mark.usefixtures("any_gain")


def deep():
    """A layer over all views, and its output [rows, 4]."""
    graph = Graph(1)
    graph.row_user()
    graph.input("user_numbers", "users", 5)
    graph.input("item_numbers", "rows", 4)
    joined = graph.op("Concat", graph.to_rows("user_numbers"), "item_numbers", axis=1)
    return graph, graph.op("Relu", graph.linear(joined, 9, 4))


def tied_by(graph, row_user):
    """The user's numbers, gathered by ``row_user``."""
    return graph.op("Gather", "user_numbers", row_user, axis=0)


def row_user_as_column(graph):
    taken = tied_by(graph, graph.op("Unsqueeze", "row_user", graph.whole([1])))
    return graph.linear(graph.op("Squeeze", graph.op("Softmax", taken, axis=1), graph.whole([1])), 5, 4)


def row_user_reshaped(graph):
    column = graph.op("Reshape", "row_user", graph.whole([-1, 1]))
    return graph.linear(graph.op("Flatten", tied_by(graph, column), axis=1), 5, 4)


def row_user_as_truth(graph):
    truth = graph.op("Cast", graph.op("Cast", "row_user", to=9), to=7)
    return graph.linear(tied_by(graph, truth), 5, 4)


def random_like_the_item(graph):
    return graph.op("RandomNormalLike", "item_numbers")


def random_like_a_constant(graph):
    return graph.op("RandomUniformLike", graph.normal(4))


def dropout_in_training(graph):
    return graph.op("Dropout", "item_numbers", graph.constant(0.5), graph.constant(True, bool))


def sum_without_axes(graph):
    return graph.op("ReduceSum", "item_numbers", graph.whole([]), keepdims=1)


def product_with_a_vector(graph):
    return graph.op("Unsqueeze", graph.op("MatMul", "item_numbers", graph.normal(4)), graph.whole([1]))


PARTS = [
    product_with_a_vector,
    row_user_as_column,
    row_user_reshaped,
    row_user_as_truth,
    random_like_the_item,
    random_like_a_constant,
    dropout_in_training,
    sum_without_axes,
]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_not_understood_leaves_the_graph_plain(part):
    graph, hidden = deep()
    graph.probability(graph.linear(graph.op("Add", hidden, part(graph)), 4, 1))
    assert collapse(graph.model(), graph.inputs) is None


@pytest.mark.parametrize("way", ["wider", "narrower", "flat"])
def test_row_user_may_be_cast_and_made_flat(way):
    graph, hidden = deep()
    if way == "flat":
        row_user = graph.op("Reshape", "row_user", graph.whole([-1]))
    else:
        row_user = graph.op("Cast", "row_user", to={"wider": 7, "narrower": 6}[way])
    graph.probability(graph.linear(graph.op("Add", hidden, graph.linear(tied_by(graph, row_user), 5, 4)), 4, 1))
    collapsed(graph)


@pytest.mark.parametrize(("opset", "read"), [(12, False), (13, True)])
def test_graphs_of_old_operators_are_not_read(opset, read):
    graph, hidden = deep()
    graph.output("like", graph.op("Sigmoid", graph.op("Reshape", graph.linear(hidden, 4, 1), graph.whole([-1]))))
    model = graph.model()
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    assert (collapse(model, graph.inputs) is not None) is read
