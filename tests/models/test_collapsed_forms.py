"""What is published beside the plain graph says what it says and holds the whole catalogue, or is refused."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from models import collapsed_forms
from models.agreement import TOLERANCE, ParityError
from models.export import export_run
from models.manifest import GOLDEN_INPUT, GOLDEN_OUTPUT, ITEM_PART
from models.repository import ModelRepository
from models.training.run_directory import read_run
from models.zoo.registry import NETWORKS

every_network = pytest.mark.parametrize("network", list(NETWORKS))


def arrays_of(version, file):
    content = io.BytesIO(version.file_bytes(file))
    if file.endswith(".npy"):
        return np.load(content, allow_pickle=False)
    with np.load(content, allow_pickle=False) as arrays:
        return dict(arrays)


def run(version, file, feeds):
    session = onnxruntime.InferenceSession(version.file_bytes(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {each.name: feeds[each.name] for each in session.get_inputs()}), strict=True))


@every_network
def test_golden_rows_come_out_of_the_forms_with_the_item_part_from_the_table(exported, trained, network):
    version = exported(network).version
    collapsed, golden = version.manifest.collapsed, arrays_of(version, version.manifest.golden)
    feeds = {name.removeprefix(GOLDEN_INPUT): array for name, array in golden.items() if name.startswith(GOLDEN_INPUT)}
    expected = golden[GOLDEN_OUTPUT + "click"]
    part = collapsed.item_part
    items = read_run(trained(network).directory.root).inputs.item
    ids = feeds["item_categories"][:, items.first_column("item_id")]
    table = arrays_of(version, part.table)
    same = np.all(arrays_of(version, part.table_inputs)["item_categories"][ids] == feeds["item_categories"], axis=1)
    assert same.any()  # rows of known items; those of unknown ones share an id and stand for nobody
    feeds[ITEM_PART] = np.where(same[:, None], table[ids], run(version, part.onnx, feeds)[ITEM_PART])
    many = run(version, collapsed.many_users.onnx, feeds)["click"]
    np.testing.assert_allclose(many, expected, rtol=0, atol=TOLERANCE)
    users = {each.name for each in version.manifest.inputs if each.axis == "users"}
    for user in np.unique(feeds["row_user"]):
        rows = feeds["row_user"] == user
        alone = {name: array[user : user + 1] if name in users else array[rows] for name, array in feeds.items()}
        one = run(version, collapsed.one_user.onnx, alone)["click"]
        np.testing.assert_allclose(one, expected[rows], rtol=0, atol=TOLERANCE)


@every_network
def test_the_table_holds_what_the_item_graph_makes_of_every_item_it_knows(exported, network):
    version = exported(network).version
    part = version.manifest.collapsed.item_part
    inputs, table = arrays_of(version, part.table_inputs), arrays_of(version, part.table)
    assert table.shape == (len(inputs["item_categories"]), part.width)
    np.testing.assert_array_equal(table, run(version, part.onnx, inputs)[ITEM_PART])


@every_network
def test_the_manifest_says_what_is_saved(exported, network):
    collapsed = exported(network).version.manifest.collapsed
    assert collapsed.collapsed_cost.flops_per_row < collapsed.plain_cost.flops_per_row
    assert collapsed.parity.largest <= TOLERANCE
    assert {case.partition(".")[0] for case in collapsed.parity.cases} == {"one_user", "many_users"}


def test_a_form_that_does_not_say_what_torch_says_is_never_published(trained, tmp_path, monkeypatch):
    collapse = collapsed_forms.collapse

    def spoilt(*arguments, **options):
        graphs = collapse(*arguments, **options)
        for graph in (graphs.one_user, graphs.many_users):
            largest = max(graph.graph.initializer, key=lambda each: numpy_helper.to_array(each).size)
            largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) * np.float32(1.5), largest.name))
        return replace(graphs)

    monkeypatch.setattr(collapsed_forms, "collapse", spoilt)
    repository = ModelRepository(tmp_path)
    with pytest.raises(ParityError, match=r"case (one_user|many_users)\."):
        export_run(trained("deepfm").directory.root, repository)
    assert repository.names() == []


def test_a_version_can_be_published_without_them(trained, tmp_path):
    manifest = export_run(trained("deepfm").directory.root, ModelRepository(tmp_path), collapsed=False)
    assert manifest.collapsed is None
    assert not any(file.name.endswith(("one_user.onnx", "item_part.npy")) for file in manifest.files)


def test_the_forms_are_sound_graphs(exported):
    version = exported("din").version
    for file in ("item.onnx", "one_user.onnx", "many_users.onnx"):
        onnx.checker.check_model(onnx.load_from_string(version.file_bytes(file)), full_check=True)
