"""The zoo's networks and textbook networks, exported by torch: both styles come to the same fast forms, with the same
scores.
"""

import onnx
import pytest

from models.collapse.collapse import collapse
from models.collapse.parity import check_collapsed
from models.graph import GraphShape, write_graph
from models.manifest import GraphInput
from models.parity import parity_cases, torch_outputs
from tests.models.collapse.graphs import input_names, operators, products, requests
from tests.models.collapse.textbook import TextbookDeepFM, TextbookDIN, exported
from tests.models.zoo_batches import FULL, ITEM_ONLY, random_batch, small_network


def declared(shape):
    return [GraphInput(name=each.name, dtype=each.dtype, axis=each.axis, width=each.width) for each in shape.inputs]


def checked(model, inputs, cases=None):
    graphs = collapse(model, inputs)
    assert graphs is not None
    check_collapsed(model, graphs, inputs, cases or requests(inputs))
    return graphs


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deepfm", {}),
        ("din", {}),
        ("din", {"attention_activation": "relu", "weights": "gate"}),
        ("mean_pooling", {}),
    ],
)
def test_the_zoos_networks_gain_and_say_the_same(name, options, tmp_path):
    network = small_network(name, **options).eval()
    batch = random_batch()
    shape = GraphShape.of(network, FULL, batch)
    write_graph(network, shape, batch, tmp_path / "model.onnx")
    cases = {case: {key: tensor.numpy() for key, tensor in tensors.items()} for case, tensors in parity_cases(FULL, shape)}
    small = {case: arrays for case, arrays in cases.items() if len(arrays["row_user"]) <= 500}
    graphs = checked(onnx.load(tmp_path / "model.onnx"), declared(shape), small)
    assert not any(each.startswith("item_") and each != "item_part" for each in input_names(graphs.one_user))
    assert graphs.collapsed_cost.flops_per_row < graphs.plain_cost.flops_per_row


def test_a_network_of_items_alone_needs_no_user(tmp_path):
    network = small_network("deepfm", ITEM_ONLY).eval()
    batch = random_batch(ITEM_ONLY)
    shape = GraphShape.of(network, ITEM_ONLY, batch)
    write_graph(network, shape, batch, tmp_path / "model.onnx")
    graphs = checked(onnx.load(tmp_path / "model.onnx"), declared(shape))
    assert input_names(graphs.one_user) == {"item_part"}
    assert graphs.item_width == 1
    assert torch_outputs(network, shape.select(batch)).keys() == {"like"}


@pytest.mark.parametrize("fields", [(4, 3, 1), (4, 3, 0)])
def test_textbook_deepfm(fields, tmp_path):
    network = TextbookDeepFM(fields)
    graphs = checked(exported(network, tmp_path / "model.onnx"), network.inputs)
    # The first layer's half (12), the vector of the factorization machine (4), and one term of the item's own.
    assert graphs.item_width == 12 + 4 + 1
    if not fields[2]:
        assert input_names(graphs.one_user) == {"user_categories", "item_part"}
        assert len(products(graphs.one_user)) == 3  # the user's half, the second layer and the last


def test_textbook_din(tmp_path):
    network = TextbookDIN()
    graphs = checked(exported(network, tmp_path / "model.onnx"), network.inputs)
    assert input_names(graphs.one_user) == {"history", "user_categories", "item_part"}
    counts = operators(graphs.one_user)
    assert "Expand" not in counts
    assert counts["Mul"] == 1  # of the attention and its mask
    # Of the item's: its vector, the head's half, and for many users the attention's half.
    assert graphs.item_width == 4 + 12 + 8
