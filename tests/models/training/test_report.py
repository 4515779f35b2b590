"""The report of a run: a table and two plots."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest

from models.training.metrics import LabelledRows
from models.training.report import draw_calibration, draw_learning_curve, metric_table

EPOCHS = [
    {"train_loss": 0.7, "valid_logloss": 0.69, "valid_auc": 0.6},
    {"train_loss": 0.6, "valid_logloss": 0.7, "valid_auc": 0.65},
]


def test_the_table_shows_every_metric_of_every_column():
    metrics = LabelledRows(np.ones(3, dtype=np.float32), np.arange(3), np.zeros(3, dtype=int)).measure(np.zeros(3))
    table = metric_table([("valid", metrics), ("test", metrics)])
    assert table.splitlines()[0].split() == ["metric", "valid", "test"]
    assert "auc            undefined   undefined" in table
    assert "rows                   3           3" in table
    assert len(table.splitlines()) == 1 + len(metrics.to_json())


@pytest.mark.parametrize("monitor", ["auc", "logloss"])
def test_the_learning_curve_is_a_picture(tmp_path, monitor):
    draw_learning_curve(EPOCHS, 1, monitor, tmp_path / "curve.png")
    assert matplotlib.image.imread(tmp_path / "curve.png").shape[:2] == (400, 700)


@pytest.mark.parametrize("labels", [np.zeros(50), np.ones(50), np.tile([0.0, 1.0], 25)])
def test_calibration_is_drawn_for_constant_scores_and_for_one_class(tmp_path, labels):
    draw_calibration(labels.astype(np.float32), np.zeros(50, dtype=np.float32), tmp_path / "calibration.png")
    assert matplotlib.image.imread(tmp_path / "calibration.png").shape[:2] == (600, 500)
