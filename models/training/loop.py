"""One network through Lightning: early stopping, the best epoch's weights kept, able to go on after a kill."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from models.training.batches import RowBatches, Rows, ShuffledRowBatches
from models.training.config import RunConfig
from models.training.metrics import MetricError, RankingMetrics, monitored
from models.training.task import MONITORED, RankingTask, score_batches
from models.zoo.registry import Network

LAST_CHECKPOINT = "last.ckpt"
_SCORING_ROWS = 4096


class TrainingError(Exception):
    """The data cannot train or validate this network; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The three parts of the data."""

    train: Rows
    valid: Rows
    test: Rows


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training leaves: the network holds the best epoch's weights; logits are of the rows that have the label."""

    network: Network
    epochs: list[dict[str, float | None]]
    best_epoch: int
    valid: RankingMetrics
    test: RankingMetrics
    test_logits: np.ndarray
    test_labels: np.ndarray


def fit(network: Network, config: RunConfig, parts: Parts, *, checkpoints: Path, progress: bool = False) -> Fitted:
    """Train until ``monitor`` stops getting better, then measure the best epoch's weights on valid and test rows.

    ``checkpoints`` holds the best and the last epoch; when it already has a last one, training goes on from there.

    Raises:
        TrainingError: a part has no row with the label, the valid rows do not define ``monitor``, or training diverged.
    """
    label = network.label
    train = ShuffledRowBatches(parts.train, label, batch_rows=config.batch_rows, seed=config.seed)
    valid = RowBatches(parts.valid, label, batch_rows=_SCORING_ROWS)
    test = RowBatches(parts.test, label, batch_rows=_SCORING_ROWS)
    _check_rows(label, train=train, valid=valid, test=test)
    _check_monitor(config, valid)
    task = RankingTask(network, config, valid.labelled())
    best = ModelCheckpoint(checkpoints, "best", monitor=MONITORED, mode=_mode(config), save_last=True)
    stopping = EarlyStopping(MONITORED, mode=_mode(config), patience=config.patience, check_finite=True)
    last = checkpoints / LAST_CHECKPOINT
    with _quiet_lightning():
        trainer = _trainer(config, [best, stopping], progress=progress)
        try:
            trainer.fit(task, train, valid, ckpt_path=last if last.exists() else None, weights_only=True)
        except MetricError as error:
            raise TrainingError(str(error)) from error
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    task.load_state_dict(state["state_dict"])
    test_logits = score_batches(network, test)
    return Fitted(
        network=network,
        epochs=task.epochs,
        best_epoch=int(state["epoch"]),
        valid=valid.labelled().measure(score_batches(network, valid)),
        test=test.labelled().measure(test_logits),
        test_logits=test_logits,
        test_labels=test.labelled().labels,
    )


def _check_rows(label: str, **parts: RowBatches) -> None:
    for name, batches in parts.items():
        if not batches.rows:
            raise TrainingError(f"no {name} row has the label {label!r}: check the split and the label's column")
    if parts["train"].rows < 2:
        raise TrainingError(f"one train row has the label {label!r}: batch normalization needs at least two")


def _check_monitor(config: RunConfig, valid: RowBatches) -> None:
    """Whether the metric is defined shows in constant scores too: better now than after an epoch."""
    try:
        monitored(valid.labelled().measure(np.zeros(valid.rows)), config.monitor)
    except MetricError as error:
        raise TrainingError(str(error)) from None


def _mode(config: RunConfig) -> str:
    return "min" if config.monitor == "logloss" else "max"


def _trainer(config: RunConfig, callbacks: list[lightning.Callback], *, progress: bool) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=config.epochs,
        gradient_clip_val=config.gradient_clip_norm,
        callbacks=callbacks,
        devices=1,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        num_sanity_val_steps=0,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes on devices and tips, its doubt about resuming, its use of a class that torch deprecates."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty", UserWarning)
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
