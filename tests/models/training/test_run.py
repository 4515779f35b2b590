"""A training run from tables to its directory; stopped ones go on, broken ones are refused."""

from __future__ import annotations

import json
import logging
import shutil

import matplotlib.image
import numpy as np
import pytest
import torch

from feature_store.encoding.encoder import FeatureEncoder
from feature_store.views import load_views
from models.training.config import RunConfigError
from models.training.loop import TrainingError
from models.training.row_store import RowStore
from models.training.run import finish_run, resume_run, start_run
from models.training.run_directory import RunRefusedError, read_run
from models.training.task import score_batches
from models.zoo.options import OptionsError
from tests.models.tiny_shop import tiny_recipe
from tests.models.zoo_batches import SMALL


def train_run(views, recipe, runs):
    return finish_run(start_run(views, recipe, runs))


FILES = {
    "calibration.png",
    "catalogue.npz",
    "config.json",
    "encoder.json",
    "golden_requests.json",
    "golden_rows.npz",
    "learning_curve.png",
    "metrics.json",
    "views.yaml",
    "weights.pt",
}


def metrics_of(finished):
    return json.loads(finished.directory.metrics.read_text())


def test_a_finished_run_leaves_its_files_and_nothing_else(trained):
    root = trained("din").directory.root
    assert {path.name for path in root.iterdir()} == FILES
    assert matplotlib.image.imread(root / "learning_curve.png").size
    assert root.name.startswith("tiny-shop-din-click-")


@pytest.mark.parametrize("network", list(SMALL))
def test_networks_learn_the_tiny_shop(trained, network):
    metrics = metrics_of(trained(network))
    assert metrics["test"]["auc"] > 0.7
    assert metrics["training"]["epochs"] == len(metrics["epochs"]) == 3
    assert metrics["test"]["rows"] == trained(network).fitted.test.rows


def test_metrics_name_what_the_run_was(trained, tiny_shop):
    metrics = metrics_of(trained("din"))
    assert (metrics["network"], metrics["label"], metrics["seed"]) == ("din", "click", 3)
    assert len(metrics["data_fingerprint"]) == 64
    assert metrics["library_versions"]["torch"] == torch.__version__
    assert metrics["training"]["rows_per_s"] > 0
    assert set(metrics["valid"]) >= {"auc", "gauc", "logloss", "ndcg_at_10", "accuracy", "precision", "recall", "f1"}


def test_a_run_read_back_scores_as_it_did(trained):
    finished = trained("din")
    run = read_run(finished.directory.root)
    assert not run.network.training
    for name, weight in run.network.state_dict().items():
        assert torch.equal(weight, finished.fitted.network.state_dict()[name]), name


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tiny_shop, trained, tmp_path):
    first = trained("din").fitted.test_logits
    again = train_run(tiny_shop, tiny_recipe("din"), tmp_path).fitted.test_logits
    other = train_run(tiny_shop, tiny_recipe("din", seed=4), tmp_path).fitted.test_logits
    np.testing.assert_array_equal(again, first)
    assert not np.allclose(other, first)


def test_training_stops_when_the_metric_no_longer_gets_better_and_keeps_the_best_epochs_weights(tiny_shop, tmp_path):
    recipe = tiny_recipe("mean_pooling", epochs=50, patience=2, learning_rate=0.05, monitor="logloss")
    metrics = metrics_of(train_run(tiny_shop, recipe, tmp_path))
    assert metrics["training"]["epochs"] == metrics["training"]["best_epoch"] + 2
    losses = [epoch["valid_logloss"] for epoch in metrics["epochs"]]
    assert losses.index(min(losses)) == metrics["training"]["best_epoch"] - 1
    assert metrics["valid"]["logloss"] == pytest.approx(min(losses)) != pytest.approx(losses[-1])


def test_only_rows_with_the_label_are_learned_and_measured(tiny_shop, tmp_path):
    finished = train_run(tiny_shop, tiny_recipe("deepfm", label="buy", epochs=1), tmp_path)
    assert finished.fitted.test.rows < 0.7 * 180
    assert metrics_of(finished)["label"] == "buy"


def fail_after(monkeypatch, batches):
    """Let reading rows fail after so many batches, as a kill would stop it."""
    real, count = RowStore.batch, iter(range(batches))

    def batch(store, rows, length):
        if next(count, None) is None:
            raise ConnectionAbortedError("killed")
        return real(store, rows, length)

    monkeypatch.setattr(RowStore, "batch", batch)


def stopped_run(monkeypatch, views, runs):
    with monkeypatch.context() as patch:
        fail_after(patch, 20)
        with pytest.raises(ConnectionAbortedError):
            train_run(views, tiny_recipe("din"), runs)
    (root,) = runs.iterdir()
    return root


def test_a_killed_run_goes_on_and_ends_as_if_it_had_never_stopped(tiny_shop, trained, tmp_path, monkeypatch):
    root = stopped_run(monkeypatch, tiny_shop, tmp_path)
    with pytest.raises(RunRefusedError, match=r"has not finished; go on with `train --resume"):
        read_run(root)
    resumed = finish_run(resume_run(tiny_shop, root))
    np.testing.assert_array_equal(resumed.fitted.test_logits, trained("din").fitted.test_logits)
    assert [epoch["valid_auc"] for epoch in resumed.fitted.epochs] == [e["valid_auc"] for e in trained("din").fitted.epochs]
    assert {path.name for path in root.iterdir()} == FILES


def test_a_run_is_not_resumed_on_other_data(tiny_shop, tmp_path, monkeypatch):
    shop = shutil.copytree(tiny_shop.parent, tmp_path / "shop")
    root = stopped_run(monkeypatch, shop / "views.yaml", tmp_path / "runs")
    with (shop / "interactions.csv").open("a") as file:
        file.write("u1,i1,99,1,,phone,p0\n")
    with pytest.raises(RunConfigError, match="views or tables differ"):
        resume_run(shop / "views.yaml", root)


def test_a_finished_run_is_not_resumed(tiny_shop, trained):
    with pytest.raises(RunConfigError, match="has finished"):
        resume_run(tiny_shop, trained("din").directory.root)


def test_options_that_do_not_fit_the_data_leave_no_directory(tiny_shop, tmp_path):
    recipe = tiny_recipe("din", options={"embedding_sizes": {"colour": 4}})
    with pytest.raises(OptionsError, match="no category field 'colour'; there are: town, device, tags, place"):
        train_run(tiny_shop, recipe, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_label_with_one_class_in_the_valid_rows_cannot_be_monitored(tiny_shop, tmp_path):
    shop = shutil.copytree(tiny_shop.parent, tmp_path / "shop")
    table = (shop / "interactions.csv").read_text().splitlines()
    header, rows = table[0], [line.split(",") for line in table[1:]]
    late = [",".join([*row[:3], "1" if int(row[2]) > 20 else row[3], *row[4:]]) for row in rows]
    (shop / "interactions.csv").write_text("\n".join([header, *late]) + "\n")
    with pytest.raises(TrainingError, match="do not define auc"):
        train_run(shop / "views.yaml", tiny_recipe("deepfm"), tmp_path / "runs")


@pytest.mark.parametrize("name", ["encoder.json", "weights.pt", "golden_rows.npz", "metrics.json"])
@pytest.mark.parametrize("content", [None, b"broken"])
def test_a_run_with_a_missing_or_broken_file_is_refused(trained, tmp_path, name, content):
    root = shutil.copytree(trained("deepfm").directory.root, tmp_path / "run")
    if content is None:
        (root / name).unlink()
    else:
        (root / name).write_bytes(content)
    with pytest.raises(RunRefusedError, match=str(root)):
        read_run(root)


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense"])
def test_a_broken_record_is_refused(trained, tmp_path, text):
    root = shutil.copytree(trained("deepfm").directory.root, tmp_path / "run")
    (root / "config.json").write_text(text)
    with pytest.raises(RunRefusedError, match=r"config\.json"):
        read_run(root)


def test_weights_of_another_network_are_refused(trained, tmp_path):
    root = shutil.copytree(trained("deepfm").directory.root, tmp_path / "run")
    shutil.copyfile(trained("din").directory.weights, root / "weights.pt")
    with pytest.raises(RunRefusedError, match="missing or broken"):
        read_run(root)


def test_golden_rows_hold_raw_requests_that_encode_to_the_golden_tensors(trained):
    root = trained("din").directory.root
    run = read_run(root)
    requests = json.loads(run.directory.golden_requests.read_text())
    encoder = FeatureEncoder.loads(run.directory.encoder.read_bytes())
    users = encoder.views["user"].encode_records([request["user"] for request in requests])
    np.testing.assert_array_equal(run.golden["user_categories"], users.categories)
    np.testing.assert_array_equal(run.golden["user_numbers"], users.numbers)
    np.testing.assert_array_equal(run.golden["history"], encoder.encode_history([request["history"] for request in requests]))
    candidates = [candidate for request in requests for candidate in request["candidates"]]
    items = encoder.views["item"].encode_records([candidate["item"] for candidate in candidates])
    np.testing.assert_array_equal(run.golden["item_categories"], items.categories)
    sent = encoder.views["candidate"].encode_records([candidate["candidate"] for candidate in candidates])
    np.testing.assert_array_equal(run.golden["candidate_categories"], sent.categories)
    assert requests[-1]["history"] == []
    assert not run.golden["history"][-1].any()


def test_training_says_nothing_unasked(tiny_shop, tmp_path, capfd, caplog):
    with caplog.at_level(logging.INFO):
        train_run(tiny_shop, tiny_recipe("deepfm", epochs=1), tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_views_of_a_run_are_those_it_was_trained_with(tiny_shop, trained):
    assert load_views(trained("din").directory.views) == load_views(tiny_shop)


def test_scoring_switches_dropout_off(trained):
    network = trained("din").fitted.network
    run = read_run(trained("din").directory.root)
    network.train()
    batches = [(run.golden, torch.zeros(1))]
    np.testing.assert_array_equal(score_batches(network, batches), score_batches(run.network, batches))
