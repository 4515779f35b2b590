"""Offline scores in bulk: each row as if it were alone, whatever the batches, and over tables that the run never saw."""

import numpy as np
import pytest
import torch

from feature_store.tables import read_tables
from feature_store.views import load_views
from models.training.offline_scores import score_rows_offline
from models.training.rows import build_training_data, encode_rows
from models.training.run_directory import read_run
from tests.models.tiny_shop import write_tiny_shop


@pytest.fixture(scope="module")
def run(trained):
    return read_run(trained("din").directory.root)


def test_scores_come_row_by_row_in_the_order_asked_for(run, tiny_shop):
    views = load_views(tiny_shop)
    test = build_training_data(views, read_tables(views, tiny_shop.parent)).test
    places = np.random.default_rng(1).integers(0, len(test), size=2_100)
    scores = score_rows_offline(run, test, places)
    assert scores.dtype == np.float64
    assert scores.shape == (2_100,)
    for place in (0, 1_023, 1_024, 2_047, 2_048, 2_099):
        with torch.no_grad():
            alone = torch.sigmoid(run.network(test.batch(places[place : place + 1]))[run.record.label])[0]
        assert scores[place] == pytest.approx(float(alone), abs=1e-6)
    assert len(np.unique(scores.round(6))) > 20


def test_other_tables_are_scored_by_the_encoder_of_the_run(run, tmp_path):
    path = write_tiny_shop(tmp_path)
    views = load_views(path)
    whole = encode_rows(views, read_tables(views, tmp_path), run.encoder)
    table = tmp_path / "interactions.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:301]) + "\n")
    start = encode_rows(views, read_tables(views, tmp_path), run.encoder)
    places = np.arange(300)
    assert (len(whole), len(start)) == (1_200, 300)
    np.testing.assert_allclose(score_rows_offline(run, start, places), score_rows_offline(run, whole, places), atol=1e-6)


def test_no_rows_have_no_scores(run, tiny_shop):
    views = load_views(tiny_shop)
    rows = encode_rows(views, read_tables(views, tiny_shop.parent), run.encoder)
    assert score_rows_offline(run, rows, np.zeros(0, dtype=np.int64)).shape == (0,)
