"""A trained run to a published version: graph, parity, golden rows, manifest last. A verified version, or nothing."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.collapsed_forms import declared_inputs, write_collapsed
from models.graph import OPSET, GraphShape, attention_output, write_graph
from models.manifest import (
    GOLDEN_INPUT,
    GOLDEN_OUTPUT,
    ArtifactFile,
    Collapsed,
    GraphOutput,
    Manifest,
    Parity,
    TrainingRun,
)
from models.parity import measure_parity, torch_outputs
from models.repository import ModelRepository
from models.training.run import library_versions
from models.training.run_directory import TrainedRun, read_run

ONNX_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def export_run(
    run_directory: Path, repository: ModelRepository, name: str | None = None, *, collapsed: bool = True
) -> Manifest:
    """Export a finished run and publish it under ``name`` (the network's by default) as the next version.

    With ``collapsed``, also in the forms that score without repeated work, where the network has any.

    Raises:
        RunRefusedError: the run has not finished or is broken.
        ReferenceInvalidError: ``name`` is no model name.
        ParityError: the graph does not say what torch says; nothing is published.
    """
    return publish_run(read_run(run_directory), repository, name, collapsed=collapsed)


def publish_run(run: TrainedRun, repository: ModelRepository, name: str | None = None, *, collapsed: bool = True) -> Manifest:
    """As ``export_run``, of a run at hand."""
    shape = GraphShape.of(run.network, run.inputs, run.golden)
    with repository.stage(name or run.record.recipe.network) as staged:
        write_graph(run.network, shape, run.golden, staged / ONNX_FILE)
        parity = measure_parity(run.network, run.inputs, shape, staged / ONNX_FILE, run.golden)
        forms = write_collapsed(staged, staged / ONNX_FILE, run, shape) if collapsed else None
        _write_golden(run, shape, staged / GOLDEN_FILE)
        for source in (run.directory.encoder, run.directory.views, run.directory.golden_requests):
            shutil.copyfile(source, staged / source.name)
        return repository.publish(staged, _manifest_of(run, shape, parity, forms, name=staged.parent.name))


def _write_golden(run: TrainedRun, shape: GraphShape, path: Path) -> None:
    inputs = {GOLDEN_INPUT + name: tensor.numpy() for name, tensor in shape.select(run.golden).items()}
    outputs = {GOLDEN_OUTPUT + name: values for name, values in torch_outputs(run.network, run.golden).items()}
    arrays: dict[str, Any] = {**inputs, **outputs}
    np.savez(path, **arrays)


def _manifest_of(run: TrainedRun, shape: GraphShape, parity: Parity, forms: Collapsed | None, *, name: str) -> Any:
    """What ``ModelRepository.publish`` calls once it knows version and files."""

    def manifest_of(version: int, files: tuple[ArtifactFile, ...]) -> Manifest:
        return Manifest(
            name=name,
            version=version,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            onnx=ONNX_FILE,
            opset=OPSET,
            encoder=run.directory.encoder.name,
            encoder_fingerprint=run.encoder.fingerprint,
            golden=GOLDEN_FILE,
            files=files,
            inputs=declared_inputs(shape),
            outputs=_outputs(shape),
            views_name=run.record.views_name,
            history_length=run.inputs.history_length,
            uses_history=run.network.uses_history,
            training=_training(run),
            parity=parity,
            collapsed=forms,
        )

    return manifest_of


def _outputs(shape: GraphShape) -> tuple[GraphOutput, ...]:
    attention = attention_output(shape)
    return tuple(GraphOutput(name=name, meaning="attention" if name == attention else "probability") for name in shape.outputs)


def _training(run: TrainedRun) -> TrainingRun:
    return TrainingRun(
        run_id=run.record.run_id,
        network=run.record.recipe.network,
        label=run.record.label,
        seed=run.record.recipe.seed,
        data_fingerprint=run.record.data_fingerprint,
        metrics=_flat_metrics(run.metrics),
        library_versions={**run.metrics["library_versions"], **library_versions(_LIBRARIES)},
    )


def _flat_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """``valid_auc``, ``test_auc`` ... and the numbers of training; what the rows did not define is left out."""
    flat = {f"{part}_{name}": value for part in ("valid", "test") for name, value in metrics[part].items()}
    return {name: float(value) for name, value in {**flat, **metrics["training"]}.items() if value is not None}
