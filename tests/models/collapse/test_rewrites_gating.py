"""Dice and its like: constant factors leave products of live values and go into the layers around. ``collapsed`` checks that
the scores are the same.
"""

import numpy as np
import pytest
from onnx import numpy_helper

from models.agreement import ParityError
from models.collapse import addends, operators_arithmetic
from models.collapse.collapse import collapse
from models.collapse.parity import check_collapsed
from tests.models.collapse.graphs import Graph, collapsed, operators, products, requests

pytestmark = pytest.mark.usefixtures("any_gain")

LENGTH, WIDTH = 6, 5


def dice(graph, x, alpha, *, norm=None):
    """``x * (alpha + (1 - alpha) * sigmoid(normalized x))`` of [rows, T, WIDTH], as torch exports it."""
    flat = graph.op("Reshape", x, graph.whole([-1, WIDTH]))
    gate = graph.op("Sigmoid", norm(flat) if norm else graph.batch_norm(flat, WIDTH))
    gate = graph.op("Reshape", gate, graph.whole([-1, LENGTH, WIDTH]))
    bend = graph.op("Add", graph.constant(alpha), graph.op("Mul", gate, graph.constant(1 - alpha)))
    return graph.op("Mul", x, bend)


def attention(alpha, *, norm=None, computed_shape=False, read_before=False):
    """A layer over [c, h, c * h], Dice, and a score of each event."""
    graph = Graph()
    graph.input("history", "users", LENGTH, "int32")
    graph.input("item_categories", "rows", 1, "int32")
    graph.row_user()
    table = graph.normal(9, 4)
    h = graph.op("Gather", table, graph.to_rows("history"), axis=0)
    c = graph.op("Gather", table, "item_categories", axis=0)  # [rows, 1, 4]
    shape = graph.whole([1, LENGTH, 4])
    if computed_shape:
        count = graph.op("Shape", "row_user", start=0, end=1)
        shape = graph.op("Concat", count, graph.whole([LENGTH]), graph.whole([4]), axis=0)
    c = graph.op("Expand", c, shape)
    joined = graph.op("Concat", c, h, graph.op("Mul", c, h), axis=-1)
    x = graph.op("Add", graph.op("MatMul", joined, graph.normal(12, WIDTH)), graph.normal(WIDTH))
    extra = graph.op("Relu", x) if read_before else None
    y = dice(graph, x, np.asarray(alpha, np.float32), norm=norm and (lambda flat: norm(graph, flat)))
    y = graph.op("Add", y, extra) if read_before else y
    scores = graph.op("Squeeze", graph.op("MatMul", y, graph.normal(WIDTH, 1)), graph.whole([-1]))
    graph.probability(graph.linear(graph.op("Softmax", scores, axis=-1), LENGTH, 1))
    return graph


ALPHA = np.array([0.2, -0.1, 0.7, 1.5, 0.01])


def passes(model):
    """Elementwise nodes of the form over [rows, T, WIDTH]: those that read a constant of T * WIDTH, and the product."""
    wide = {weight.name for weight in model.graph.initializer if tuple(weight.dims) == (LENGTH * WIDTH,)}
    return [node.op_type for node in model.graph.node if wide & set(node.input)], operators(model).get("Mul", 0)


@pytest.mark.parametrize("computed_shape", [False, True])
def test_dice_is_two_additions_a_sigmoid_and_one_product(computed_shape):
    graphs = collapsed(attention(ALPHA, computed_shape=computed_shape))
    assert passes(graphs.one_user) == (["Add", "Add"], 1)
    assert "BatchNormalization" not in operators(graphs.many_users)


def test_dice_without_a_slope_below_needs_one_addition():
    assert passes(collapsed(attention(np.zeros(WIDTH))).one_user) == (["Add"], 1)


@pytest.mark.parametrize("alpha", [np.ones(WIDTH), np.array([1, 0.5, 0, 1, 1])])
def test_a_slope_of_one_is_not_divided_by(alpha):
    collapsed(attention(alpha))


@pytest.mark.parametrize("deviation", [1e-9, 1e9])
def test_a_factor_that_float32_cannot_divide_out_stays(deviation):
    def norm(graph, x):
        one, zero = graph.constant(np.ones(WIDTH)), graph.constant(np.zeros(WIDTH))
        scale = graph.constant(np.full(WIDTH, deviation))
        return graph.op("BatchNormalization", x, scale, zero, zero, one, epsilon=0.0)

    graphs = collapsed(attention(ALPHA, norm=norm))
    assert np.isfinite([np.abs(each).max() for each in weights(graphs.one_user)]).all()


def weights(model):
    arrays = [numpy_helper.to_array(weight) for weight in model.graph.initializer]
    return [array for array in arrays if array.dtype == np.float32 and array.size]


def test_a_channel_with_a_factor_of_zero_keeps_its_value():
    def norm(graph, x):
        one, zero = graph.constant(np.ones(WIDTH)), graph.constant(np.zeros(WIDTH))
        return graph.op("BatchNormalization", x, graph.constant([1, 0, 2, -3, 1]), one, zero, one, epsilon=0.0)

    collapsed(attention(ALPHA, norm=norm))


def test_a_layer_that_was_read_before_its_normalization_is_computed_once():
    graphs = collapsed(attention(ALPHA, read_before=True))
    assert products(graphs.many_users).count((4, WIDTH)) <= 2  # the history's and the pair's


def test_a_wrong_factor_would_be_seen(monkeypatch):
    monkeypatch.setattr(operators_arithmetic, "unscaled", lambda values, scaled, factor: scaled)
    graph = attention(ALPHA)
    model = graph.model()
    with pytest.raises(ParityError, match="differ"):
        check_collapsed(model, collapse(model, graph.inputs), graph.inputs, requests(graph.inputs))


@pytest.mark.parametrize("place", ["number of users", "twice"])
def test_the_number_of_something_else_is_no_number_of_rows(place):
    graph = Graph()
    graph.input("user_numbers", "users", 3)
    graph.input("item_numbers", "rows", 3)
    graph.row_user()
    user, rows = (graph.op("Shape", name, start=0, end=1) for name in ("user_numbers", "item_numbers"))
    shape = graph.op("Concat", *((user, graph.whole([3])) if place == "number of users" else (rows, rows)), axis=0)
    x = graph.op("Reshape", "item_numbers", shape) if place == "number of users" else "item_numbers"
    x = graph.op("Expand", graph.op("ReduceSum", x, graph.whole([1]), keepdims=1), shape) if place == "twice" else x
    x = graph.op("ReduceSum", graph.op("Add", x, graph.to_rows("user_numbers")) if place != "twice" else x, graph.whole([1]))
    graph.probability(x)
    assert collapse(graph.model(), graph.inputs) is None


def test_sizes_are_taken_out_of_a_shape_and_put_together():
    graph = Graph()
    graph.input("user_numbers", "users", 4)
    graph.input("item_numbers", "rows", 4)
    graph.row_user()
    x = graph.op("Add", graph.to_rows("user_numbers"), "item_numbers")
    whole = graph.op("Shape", x)
    rows = graph.op("Unsqueeze", graph.op("Gather", whole, graph.whole(0), axis=0), graph.whole([0]))
    width = graph.op("Unsqueeze", graph.op("Gather", whole, graph.whole(1), axis=0), graph.whole([0]))
    x = graph.op("Reshape", x, graph.op("Concat", rows, graph.whole([1]), width, axis=0))
    x = graph.op("Squeeze", graph.op("MatMul", graph.op("Relu", x), graph.normal(4, 1)), graph.whole([1]))
    graph.probability(x)
    assert not operators(collapsed(graph).one_user).keys() & {"Shape", "Expand"}


@pytest.mark.parametrize("widest", [4096, 3])
def test_a_wide_layers_addend_is_one_more_row_of_its_product(widest, monkeypatch):
    narrow = collapsed(attention(ALPHA), max_item_width=widest)
    monkeypatch.setattr(addends, "WIDE_SUM", LENGTH * WIDTH)
    wide = collapsed(attention(ALPHA), max_item_width=widest)
    assert three_sided(wide.one_user) == three_sided(narrow.one_user) - 1
    if widest > 3:
        assert wide.item_width == narrow.item_width + 5  # the item's vector and the 1 behind it


def three_sided(model):
    """Products with an addend that is no constant."""
    constants = {weight.name for weight in model.graph.initializer}
    return sum(node.op_type == "Gemm" and len(node.input) == 3 and node.input[2] not in constants for node in model.graph.node)


def test_the_scores_of_many_events_are_a_product_of_one_row():
    for form in (collapsed(attention(ALPHA)).one_user, collapsed(attention(ALPHA)).many_users):
        assert (WIDTH, 1) not in products(form)
        assert (1, WIDTH) in [weight.shape for weight in weights(form)]
