"""Publishing refuses collapsed forms that were made from a wrong colouring or with other weights, and logits that are off."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models import collapsed_forms
from models.agreement import ParityError
from models.collapse import collapse, columns, dependence, reading
from models.collapse.graph_ir import Axis, Source
from models.export import publish_run
from models.graph import GraphShape, write_graph
from models.parity import measure_parity
from models.repository import ModelRepository
from models.training.run_directory import read_run
from tests.models.zoo_batches import FULL, random_batch, small_network


def taken(source, wrong):
    """Every input of the colour ``source`` takes another."""

    def sabotage(monkeypatch):
        true = dependence.source_of
        monkeypatch.setattr(reading, "source_of", lambda each: wrong if true(each) is source else true(each))

    return sabotage


def pairs_taken_for_items(monkeypatch):
    def wrong(value):
        kind = dependence.kind_of(value)
        return dependence.Kind.ITEM if kind is dependence.Kind.LIVE and value.axis is Axis.ROWS else kind

    monkeypatch.setattr(columns, "kind_of", wrong)


def moved_weights(monkeypatch):
    right = collapsed_forms.collapse

    def moved(*arguments, **options):
        graphs = right(*arguments, **options)
        largest = max(graphs.one_user.graph.initializer, key=lambda each: len(each.raw_data) * (each.data_type == 1))
        largest.raw_data = (np.frombuffer(largest.raw_data, np.float32) * np.float32(1.01)).tobytes()
        return graphs

    monkeypatch.setattr(collapsed_forms, "collapse", moved)


SABOTAGES = {
    "a candidate's value taken for the item's": taken(Source.CANDIDATE, Source.ITEM),
    "a pair's value taken for the item's": pairs_taken_for_items,
    "weights that moved": moved_weights,
}
every_sabotage = pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES)


@pytest.fixture(scope="module", params=["deepfm", "din"])
def plain(request, tmp_path_factory):
    """A plain graph of hashed ids, which have no catalogue that would notice a wrong input: its path, run and shape."""
    network, batch = small_network(request.param).eval(), random_batch()
    shape = GraphShape.of(network, FULL, batch)
    path = tmp_path_factory.mktemp("plain") / "model.onnx"
    write_graph(network, shape, batch, path)
    return path, SimpleNamespace(network=network, inputs=FULL, golden=batch, catalogue=None), shape


@every_sabotage
def test_no_form_passes_that_was_sabotaged(plain, sabotage, monkeypatch, tmp_path):
    path, run, shape = plain
    sabotage(monkeypatch)
    monkeypatch.setattr(collapse, "_GAIN", float("inf"))
    with pytest.raises(ParityError, match="--plain"):
        collapsed_forms.write_collapsed(tmp_path, path, run, shape)


def test_an_items_value_taken_for_the_users_gives_no_forms(plain, monkeypatch, tmp_path):
    path, run, shape = plain
    taken(Source.ITEM, Source.USER)(monkeypatch)
    monkeypatch.setattr(collapse, "_GAIN", float("inf"))
    assert collapsed_forms.write_collapsed(tmp_path, path, run, shape) is None
    assert list(tmp_path.iterdir()) == []


def test_right_forms_pass_and_are_compared_in_every_case(plain, tmp_path):
    path, run, shape = plain
    parity = collapsed_forms.write_collapsed(tmp_path, path, run, shape).parity
    forms = {case.partition(".")[0] for case in parity.cases}
    assert forms == {"one_user", "many_users"}
    assert {"one_user.golden_rows", "many_users.thousands_of_rows"} <= parity.cases.keys()


def test_a_wrong_colouring_leaves_the_repository_empty(trained, tmp_path, monkeypatch):
    pairs_taken_for_items(monkeypatch)
    repository = ModelRepository(tmp_path)
    run = replace(read_run(trained("deepfm").directory.root), catalogue=None)
    with pytest.raises(ParityError, match="--plain"):
        publish_run(run, repository)
    assert repository.names() == []
    assert list((tmp_path / "deepfm").iterdir()) == []


@pytest.mark.parametrize("plain", ["deepfm"], indirect=True)
def test_a_plain_graph_whose_logits_are_off_is_refused_though_its_probabilities_are_not(plain):
    path, run, shape = plain
    low, off = small_network("deepfm").eval(), small_network("deepfm").eval()
    with torch.no_grad():
        for network, logit in ((low, -5), (off, -5.0005)):
            for weights in network.parameters():
                weights.zero_()
            network.bias.fill_(logit)
    write_graph(low, shape, run.golden, path.parent / "low.onnx")
    measure_parity(low, FULL, shape, path.parent / "low.onnx", run.golden)
    with pytest.raises(ParityError, match="logit"):
        measure_parity(off, FULL, shape, path.parent / "low.onnx", run.golden)


@pytest.mark.parametrize("most", [1, 4_000])
def test_the_table_of_a_large_catalogue_is_narrower_or_not_there(plain, most, monkeypatch, tmp_path):
    path, run, shape = plain
    rng = np.random.default_rng(0)
    catalogue = {
        "item_categories": rng.integers(0, 5, (100, 4)).astype(np.int32),
        "item_numbers": rng.standard_normal((100, 1)).astype(np.float32),
    }
    run = SimpleNamespace(network=run.network, inputs=FULL, golden=run.golden, catalogue=catalogue)
    whole = collapsed_forms.write_collapsed(tmp_path, path, run, shape)
    assert whole.item_part.width * 400 > 4_000
    monkeypatch.setattr(collapsed_forms, "MOST_TABLE_BYTES", most, raising=False)
    monkeypatch.setattr(collapsed_forms, "_ROWS_AT_ONCE", 30)
    (tmp_path / "less").mkdir()
    less = collapsed_forms.write_collapsed(tmp_path / "less", path, run, shape)
    if most == 1:
        assert less is None or less.item_part is None
    else:
        table = np.load(tmp_path / "less" / less.item_part.table)
        assert table.shape == (100, less.item_part.width)
        assert table.nbytes <= 4_000
