"""What a run shows a person: a table of metrics, the learning curve, the calibration plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve

from models.training.metrics import Floats, Monitor, RankingMetrics, probabilities

_CALIBRATION_BINS = 10


def metric_table(columns: Sequence[tuple[str, RankingMetrics]]) -> str:
    """Metrics side by side as plain text, one line a metric."""
    values = [(title, metrics.to_json()) for title, metrics in columns]
    lines = ["metric".ljust(12) + "".join(title.rjust(12) for title, _ in values)]
    for name in values[0][1]:
        lines.append(name.ljust(12) + "".join(_cell(metrics[name]).rjust(12) for _, metrics in values))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "undefined"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def draw_learning_curve(epochs: Sequence[dict[str, float | None]], best_epoch: int, monitor: Monitor, path: Path) -> None:
    """Train and valid loss, and the monitored metric, by epoch; the best epoch is marked."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    losses = figure.add_subplot()
    numbers = np.arange(1, len(epochs) + 1)
    losses.plot(numbers, _series(epochs, "train_loss"), "o-", label="train loss")
    losses.plot(numbers, _series(epochs, "valid_logloss"), "s-", label="valid logloss")
    losses.set(xlabel="epoch", ylabel="cross-entropy", xticks=numbers)
    losses.axvline(best_epoch + 1, color="grey", linestyle=":", label="best epoch")
    if monitor != "logloss":
        twin = losses.twinx()
        twin.plot(numbers, _series(epochs, f"valid_{monitor}"), "^-", color="tab:green", label=f"valid {monitor}")
        twin.set_ylabel(f"valid {monitor}", color="tab:green")
    # Above the axes: two scales leave no corner that is free in every run.
    losses.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    figure.savefig(path)


def _series(epochs: Sequence[dict[str, float | None]], name: str) -> np.ndarray:
    return np.array([epoch[name] for epoch in epochs], dtype=np.float64)


def draw_calibration(labels: Floats, logits: Floats, path: Path) -> None:
    """Observed share of positives against predicted probability in ten bins of equal numbers of rows."""
    predicted = probabilities(logits)
    observed_share, mean_predicted = calibration_curve(labels > 0.5, predicted, n_bins=_CALIBRATION_BINS, strategy="quantile")
    figure = Figure(figsize=(5, 6), layout="constrained")
    above, below = figure.subplots(2, height_ratios=[3, 1], sharex=True)
    above.plot([0, 1], [0, 1], ":", color="grey", label="perfect")
    above.plot(mean_predicted, observed_share, "o-", label="test rows")
    above.set(ylabel="observed share of positives")
    above.legend(loc="best")
    below.hist(predicted, bins=40, range=(0, 1))
    below.set(xlabel="predicted probability", ylabel="rows")
    figure.savefig(path)
