"""A published version says what torch says, and says truly what it is."""

from __future__ import annotations

import io
import json
import re
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from models.agreement import ParityError
from models.export import export_run
from models.graph import GraphShape, write_graph
from models.manifest import GOLDEN_INPUT, GOLDEN_OUTPUT
from models.parity import measure_parity, parity_cases
from models.repository import ModelRepository, ReferenceInvalidError
from models.training.run_directory import RunRefusedError, read_run
from models.zoo.inputs import input_tensors
from models.zoo.registry import NETWORKS
from tests.models.zoo_batches import FULL, ITEM_ONLY, random_batch, rows_of, small_network

every_network = pytest.mark.parametrize("network", list(NETWORKS))
DTYPES = {"tensor(int32)": "int32", "tensor(float)": "float32"}


def session_of(version):
    return onnxruntime.InferenceSession(version.file_bytes(version.manifest.onnx), providers=["CPUExecutionProvider"])


def golden_of(version, prefix):
    with np.load(io.BytesIO(version.file_bytes(version.manifest.golden)), allow_pickle=False) as arrays:
        return {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}


@every_network
def test_inputs_and_outputs_in_the_manifest_are_the_graphs(exported, network):
    version = exported(network).version
    manifest, session = version.manifest, session_of(version)
    graph = [(i.name, DTYPES[i.type], *i.shape) for i in session.get_inputs()]
    declared = [(i.name, i.dtype, i.axis, *([] if i.width is None else [i.width])) for i in manifest.inputs]
    assert graph == declared
    assert [output.name for output in session.get_outputs()] == [output.name for output in manifest.outputs]
    assert manifest.score_names == ("click",)
    assert ("attention" in [output.meaning for output in manifest.outputs]) == (network == "din")


@every_network
def test_the_golden_file_holds_the_graphs_inputs_and_what_torch_answered(exported, network):
    version = exported(network).version
    names = [output.name for output in version.manifest.outputs]
    answers = session_of(version).run(names, golden_of(version, GOLDEN_INPUT))
    expected = golden_of(version, GOLDEN_OUTPUT)
    assert set(expected) == set(names)
    for name, answer in zip(names, answers, strict=True):
        np.testing.assert_allclose(answer, expected[name], rtol=0, atol=1e-5)
    assert ((expected["click"] > 0) & (expected["click"] < 1)).all()


@every_network
def test_parity_is_measured_on_every_shape_of_request(exported, network):
    parity = exported(network).version.manifest.parity
    cases = {"golden_rows", "one_user", "many_users", "one_row", "thousands_of_rows", "one_user_per_row", "rows_alone"}
    history = {"empty_history", "full_history"}
    assert set(parity.cases) == (cases if network == "deepfm" else cases | history)
    assert parity.largest == max(parity.cases.values()) <= 1e-5


def test_a_version_holds_all_that_serving_needs(exported, trained):
    version = exported("din").version
    manifest = version.manifest
    assert {file.name for file in manifest.files} == {
        "model.onnx",
        "golden.npz",
        "golden_requests.json",
        "encoder.json",
        "views.yaml",
        "item.onnx",
        "one_user.onnx",
        "many_users.onnx",
        "item_part.npy",
        "item_inputs.npz",
    }
    run = read_run(trained("din").directory.root)
    assert version.file_bytes("encoder.json") == run.directory.encoder.read_bytes()
    assert manifest.encoder_fingerprint == run.encoder.fingerprint
    assert (manifest.views_name, manifest.history_length, manifest.uses_history) == ("tiny-shop", 6, True)
    assert (manifest.opset, onnx.load_from_string(version.file_bytes("model.onnx")).opset_import[0].version) == (20, 20)


def test_the_manifest_names_the_training_run_and_its_metrics(exported, trained):
    training = exported("din").version.manifest.training
    metrics = json.loads(trained("din").directory.metrics.read_text())
    assert (training.run_id, training.network, training.label, training.seed) == (metrics["run_id"], "din", "click", 3)
    assert training.metrics["test_auc"] == metrics["test"]["auc"]
    assert training.metrics["best_epoch"] == metrics["training"]["best_epoch"]
    assert {"torch", "onnx", "onnxruntime", "onnxscript", "python"} <= set(training.library_versions)


def test_deepfm_has_no_history_input(exported):
    manifest = exported("deepfm").version.manifest
    assert not manifest.uses_history
    assert "history" not in [each.name for each in manifest.inputs]


def test_a_score_does_not_depend_on_the_other_rows_of_the_batch(exported):
    version = exported("din").version
    session, batch = session_of(version), golden_of(version, GOLDEN_INPUT)
    (together,) = session.run(["click"], batch)
    reversed_batch = {name: tensor.numpy() for name, tensor in rows_of_arrays(batch, np.arange(len(together))[::-1]).items()}
    (turned,) = session.run(["click"], reversed_batch)
    np.testing.assert_allclose(turned[::-1], together, rtol=0, atol=1e-6)


def rows_of_arrays(batch, places):
    return rows_of({name: torch.from_numpy(array) for name, array in batch.items()}, places.copy())


@pytest.fixture(scope="module")
def item_only_graph(tmp_path_factory):
    """A DeepFM over one item field, with nothing on the users axis, its tables in files of their own."""
    network, batch = small_network("deepfm", ITEM_ONLY).eval(), random_batch(ITEM_ONLY)
    shape = GraphShape.of(network, ITEM_ONLY, batch)
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.weight_files.TABLE_BYTES", 0)
        write_graph(network, shape, batch, path)
    return network, shape, path, batch


def test_without_user_fields_the_graph_asks_for_no_users(item_only_graph):
    network, shape, path, batch = item_only_graph
    assert [tensor.name for tensor in shape.inputs] == ["item_categories"]
    assert measure_parity(network, ITEM_ONLY, shape, path, batch).largest <= 1e-5


def test_large_tables_go_to_files_beside_the_graph(item_only_graph):
    network, _, path, _ = item_only_graph
    tables = {tuple(table.shape): table for table in (np.load(file) for file in path.parent.glob("weight.*.npy"))}
    embeddings = [
        module.weight for module in network.modules() if isinstance(module, (torch.nn.Embedding, torch.nn.EmbeddingBag))
    ]
    assert len(tables) == len(embeddings) > 0
    for weight in embeddings:
        np.testing.assert_array_equal(tables[tuple(weight.shape)], weight.detach().numpy())
    assert {file.name.split(".")[0] for file in path.parent.iterdir()} == {"model", "weight"}


def test_a_graph_of_other_weights_is_refused(item_only_graph):
    _, shape, path, batch = item_only_graph
    with pytest.raises(ParityError, match=r"case golden_rows: like differs by"):
        measure_parity(small_network("deepfm", ITEM_ONLY, seed=9).eval(), ITEM_ONLY, shape, path, batch)


def test_scores_that_are_not_numbers_are_refused(item_only_graph):
    _, shape, path, batch = item_only_graph
    broken = small_network("deepfm", ITEM_ONLY).eval()
    with torch.no_grad():
        broken.bias.fill_(float("nan"))
    with pytest.raises(ParityError, match="differs by nan"):
        measure_parity(broken, ITEM_ONLY, shape, path, batch)


def test_parity_cases_reach_every_id_range_and_padding():
    network = small_network("din")
    shape = GraphShape(input_tensors(FULL, uses_history=True), ("like", "attention"))
    cases = dict(parity_cases(FULL, shape))
    assert not cases["empty_history"]["history"].any()
    assert cases["full_history"]["history"].all()
    history = cases["many_users"]["history"]
    assert {0, FULL.history_length} <= set((history > 0).sum(1).tolist())
    for name, batch in cases.items():
        assert torch.isfinite(network.eval()(batch)["like"]).all(), name
        assert int(batch["row_user"].max()) < len(batch["history"])
    assert len(cases["thousands_of_rows"]["row_user"]) == 3000
    assert cases["one_row"]["item_categories"].shape == (1, 4)


def test_a_failed_export_publishes_nothing(trained, tmp_path, monkeypatch):
    def refuse(*_):
        raise ParityError("case one_row: too far")

    monkeypatch.setattr("models.export.measure_parity", refuse)
    monkeypatch.setattr("models.export.write_graph", lambda *_: None)
    repository = ModelRepository(tmp_path)
    with pytest.raises(ParityError):
        export_run(trained("din").directory.root, repository)
    assert repository.names() == []
    assert list((tmp_path / "din").iterdir()) == []


def test_a_bad_name_or_an_unfinished_run_is_refused_before_any_work(trained, tmp_path):
    repository = ModelRepository(tmp_path / "repository")
    with pytest.raises(ReferenceInvalidError):
        export_run(trained("din").directory.root, repository, "../din")
    unfinished = shutil.copytree(trained("din").directory.root, tmp_path / "run")
    (unfinished / "metrics.json").unlink()
    with pytest.raises(RunRefusedError, match="has not finished"):
        export_run(unfinished, repository)
    assert not repository.root.exists()


@every_network
def test_the_command_prints_parity_by_case_and_ends_with_the_version(exported, network):
    export = exported(network)
    lines = export.printed.splitlines()
    assert export.code == 0
    cases = len(export.version.manifest.parity.cases)
    assert all(re.match(r"parity \w+ +\d\.\de[-+]\d\d$", line) for line in lines[:cases])
    saved = [
        r"collapsed parity +\d\.\de[-+]\d\d",
        r"operations per candidate +[\d,]+ -> [\d,]+",
        r"bytes per candidate +[\d,]+ -> [\d,]+",
    ]
    collapsed = saved if export.version.manifest.collapsed else []
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(collapsed, lines[cases:-1], strict=True))
    assert lines[-1] == f"published: {network}@1"
    assert export.logged == []
