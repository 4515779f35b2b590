"""One training run, from feature views to a directory with weights, metrics and plots."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import torch

from feature_store.tables import read_tables
from feature_store.views import FeatureViews, load_views
from models.training.catalogue import catalogue_of
from models.training.config import RunConfig, RunConfigError
from models.training.golden_rows import choose_golden_rows
from models.training.loop import Fitted, Parts, fit
from models.training.report import draw_calibration, draw_learning_curve
from models.training.rows import TrainingData, build_training_data
from models.training.run_directory import RunDirectory, RunRecord
from models.zoo.registry import build_network

_LIBRARIES = ("torch", "lightning", "numpy", "polars", "scikit-learn")


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run whose directory is made and whose data is at hand."""

    directory: RunDirectory
    record: RunRecord
    data: TrainingData


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """Where a run's files are, and what it reached."""

    directory: RunDirectory
    fitted: Fitted


def start_run(views_path: Path, config: RunConfig, runs: Path) -> StartedRun:
    """Read the data and make a new directory under ``runs``.

    Raises:
        ViewsError, TablesInvalidError, SplitEmptyError, OptionsError: see each; nothing is left behind.
    """
    views, data = _load(views_path)
    label = config.label_of(views)
    # Built before anything is written, so that options which do not fit the data leave no directory.
    build_network(config.network, config.network_options(), data.inputs, label)
    record = RunRecord(
        run_id=_run_id(views.name, config.network, label),
        views_name=views.name,
        label=label,
        data_fingerprint=data.fingerprint,
        recipe=config,
    )
    directory = RunDirectory(runs / record.run_id)
    directory.start(record, data.encoder, views_path)
    return StartedRun(directory, record, data)


def resume_run(views_path: Path, run: Path) -> StartedRun:
    """Take up a run that was stopped; ``finish_run`` goes on from its last whole epoch.

    Raises:
        RunRefusedError: not a run's directory.
        RunConfigError: the run has finished, or the data is not what it began with.
    """
    directory = RunDirectory(run)
    record = directory.read_record()
    if directory.metrics.exists():
        raise RunConfigError(f"{run}: this run has finished; start a new one")
    _, data = _load(views_path)
    if data.fingerprint != record.data_fingerprint:
        raise RunConfigError(f"{views_path}: views or tables differ from those that {run} began with; start a new run")
    return StartedRun(directory, record, data)


def finish_run(started: StartedRun, *, progress: bool = False) -> FinishedRun:
    """Train, and write all that a finished run has; ``metrics.json`` comes last.

    Raises:
        TrainingError: the data cannot train or validate the network, or training diverged.
    """
    directory, record, data = started.directory, started.record, started.data
    config = record.recipe
    torch.manual_seed(config.seed)
    network = build_network(config.network, config.network_options(), data.inputs, record.label)
    parts = Parts(data.train, data.valid, data.test)
    fitted = fit(network, config, parts, checkpoints=directory.checkpoints, progress=progress)
    torch.save(network.state_dict(), directory.weights)
    directory.write_golden(choose_golden_rows(data.test, data.inputs))
    directory.write_catalogue(catalogue_of(data.encoder, data.test.store.blocks["item"]))
    draw_learning_curve(fitted.epochs, fitted.best_epoch, config.monitor, directory.root / "learning_curve.png")
    draw_calibration(fitted.test_labels, fitted.test_logits, directory.root / "calibration.png")
    metrics = json.dumps(_metrics(record, fitted), indent=2, allow_nan=False)
    directory.metrics.write_text(metrics + "\n", encoding="utf-8")
    shutil.rmtree(directory.checkpoints)
    return FinishedRun(directory, fitted)


def _load(views_path: Path) -> tuple[FeatureViews, TrainingData]:
    views = load_views(views_path)
    return views, build_training_data(views, read_tables(views, views_path.parent))


def _run_id(*parts: str) -> str:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return "-".join([*parts, moment, secrets.token_hex(3)])


def _metrics(record: RunRecord, fitted: Fitted) -> dict[str, Any]:
    seconds = sum(epoch["seconds"] or 0 for epoch in fitted.epochs)
    train_seconds = sum(epoch["train_seconds"] or 0 for epoch in fitted.epochs)
    return {
        "run_id": record.run_id,
        "network": record.recipe.network,
        "label": record.label,
        "seed": record.recipe.seed,
        "data_fingerprint": record.data_fingerprint,
        "valid": fitted.valid.to_json(),
        "test": fitted.test.to_json(),
        "training": {
            "epochs": len(fitted.epochs),
            "best_epoch": fitted.best_epoch + 1,
            "seconds": seconds,
            "rows_per_s": sum(epoch["train_rows"] or 0 for epoch in fitted.epochs) / train_seconds,
            "parameters": sum(weight.numel() for weight in fitted.network.parameters()),
        },
        "epochs": fitted.epochs,
        "library_versions": library_versions(_LIBRARIES),
    }


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of installed distributions."""
    return {"python": python_version(), **{name: version(name) for name in names}}
