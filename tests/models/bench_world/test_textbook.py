"""The published textbook graphs are the papers' networks, and the zoo's."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from models.bench_world.publish import NAMES, build_textbook
from models.bench_world.textbook import TextbookSizes
from models.bench_world.weights import LOGIT_STD, draw_weights
from models.bench_world.world import calibration_places
from models.graph import GraphShape
from models.parity import parity_cases
from models.repository import ModelReference, ModelRepository
from models.zoo.inputs import BlockInputs, CategoryInput, NetworkInputs
from tests.models.bench_world import textbook_oracle as oracle
from tests.models.bench_world.conftest import CONFIG
from tests.models.bench_world.zoo_twin import zoo_twin
from tests.models.zoo_batches import rows_of

SIZES = TextbookSizes()
both = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def networks(data):
    """The networks behind the published versions, drawn once more."""
    batch = data.train.batch(calibration_places(data))
    drawn = {name: build_textbook(name, SIZES, data.inputs, "click") for name in NAMES}
    for network in drawn.values():
        draw_weights(network, batch, torch.Generator().manual_seed(CONFIG.seed))
    return drawn


@pytest.fixture(scope="module")
def graphs(world):
    """name -> the published graph as bytes."""
    repository = ModelRepository(world / "models")
    return {name: repository.open(ModelReference(name, 1)).file_bytes("model.onnx") for name in NAMES}


@pytest.fixture(scope="module")
def cases(data, networks):
    """name -> case -> tensors: any ids, users and rows of any number, missing ids among them, short and empty histories."""
    shapes = {name: GraphShape.of(network, data.inputs, data.test.batch(np.arange(4))) for name, network in networks.items()}
    made = {name: dict(parity_cases(data.inputs, shape)) for name, shape in shapes.items()}
    for tensors in (tensors for each in made.values() for tensors in each.values()):
        for view in ("user", "context", "item"):
            tensors[f"{view}_categories"][::3, 0] = 0
        if "history" in tensors:
            tensors["history"][1::3] = 0
    return made


def scored(graph, tensors):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {name: tensor.numpy() for name, tensor in tensors.items()}), strict=True))


def logits_of(probabilities):
    return np.log(probabilities.astype(np.float64)) - np.log1p(-probabilities.astype(np.float64))


def offsets_of(inputs, *, without=None):
    chosen = {
        view: [field.cardinality for field in inputs.block(view).categories if field.name != without]
        for view in ("user", "context", "item")
    }
    return {view: np.cumsum([0, *sizes[:-1]]) for view, sizes in chosen.items()}


def test_the_deepfm_graph_is_the_papers_network(data, networks, graphs, cases):
    tensors = cases["deepfm"]["many_users"]
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    expected = oracle.deepfm(oracle.arrays_of(networks["deepfm"]), offsets_of(data.inputs), arrays)
    np.testing.assert_allclose(logits_of(scored(graphs["deepfm"], tensors)["click"]), expected, rtol=0, atol=1e-4)


def test_the_din_graph_is_the_papers_network(data, networks, graphs, cases):
    tensors = rows_of(cases["din"]["many_users"], slice(None, None, 8))
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    assert 0 in (arrays["history"] > 0).sum(1)[arrays["row_user"]]
    offsets = offsets_of(data.inputs, without="item_id")
    column = data.inputs.item.first_column("item_id")
    logits, attention = oracle.din(oracle.arrays_of(networks["din"]), offsets, column, arrays)
    answer = scored(graphs["din"], tensors)
    np.testing.assert_allclose(logits_of(answer["click"]), logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(answer["attention"], attention, rtol=0, atol=1e-5)


@both
def test_the_zoos_network_with_the_same_weights_gives_the_same_scores(data, networks, cases, name):
    twin = zoo_twin(name, networks[name], SIZES, data.inputs)
    for case, tensors in cases[name].items():
        with torch.inference_mode():
            ours, theirs = networks[name](tensors), twin(tensors)
        assert ours.keys() == theirs.keys()
        for output, values in ours.items():
            np.testing.assert_allclose(values.numpy(), theirs[output].numpy(), rtol=0, atol=2e-5, err_msg=f"{case} {output}")


@both
def test_scores_are_spread_and_no_normalization_is_the_identity(data, networks, name):
    network = networks[name]
    with torch.inference_mode():
        logits = network(data.train.batch(calibration_places(data)))["click"]
    assert float(logits.std()) == pytest.approx(LOGIT_STD, rel=1e-3)
    assert float(logits.mean()) == pytest.approx(0, abs=1e-3)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert len(norms) == (2 if name == "deepfm" else 4)
    for norm in norms:
        assert float(norm.running_mean.abs().max()) > 0.05
        assert float((norm.running_var - 1).abs().max()) > 0.05


@both
def test_nothing_of_the_user_is_computed_before_it_is_repeated_for_every_row(graphs, name):
    graph = onnx.load_from_string(graphs[name]).graph
    per_user = {"user_categories", "context_categories", "history"}
    readers = [node for node in graph.node if per_user & set(node.input)]
    assert {value for node in readers for value in node.input if value in per_user} == {
        each.name for each in graph.input
    } & per_user
    assert all(node.op_type == "Gather" and node.input[0] in per_user for node in readers)
    widths = {(256, 256), (256, 128), (128, 1)} if name == "deepfm" else {(304, 256), (256, 128), (128, 1)}
    gemms = {node.input[1] for node in graph.node if node.op_type == "Gemm"}
    shapes = {tuple(weight.dims) for weight in graph.initializer if weight.name in gemms}
    assert {tuple(sorted(shape, reverse=True)) for shape in shapes} == widths


def test_fields_of_several_values_are_refused():
    tags = BlockInputs((CategoryInput("tags", 2, 9),))
    one = BlockInputs((CategoryInput("item_id", 1, 9),))
    inputs = NetworkInputs(user=tags, context=one, item=one, candidate=BlockInputs(), item_key="item_id", history_length=3)
    with pytest.raises(ValueError, match="single-valued"):
        build_textbook("deepfm", SIZES, inputs, "click")


def test_attention_looks_at_some_events_more_than_at_others_and_each_candidate_at_its_own(data, networks):
    with torch.inference_mode():
        attention = networks["din"](data.test.batch(np.arange(len(data.test))))["attention"]
        of_one_user = networks["din"]({**data.test.batch(np.arange(12)), "row_user": torch.zeros(12, dtype=torch.int32)})
    assert float(attention.amax(1).mean()) > 3 / 50
    assert float(of_one_user["attention"].std(0).mean()) > 0.2 / 50
