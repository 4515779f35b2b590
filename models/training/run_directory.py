"""The directory of one training run: what stands in it, and how it is read back.

======================= ==========================================================================
``config.json``         ``RunRecord``: run id, label, data fingerprint, the whole recipe; written first
``views.yaml``          copy of the feature views
``encoder.json``        the fitted encoder
``checkpoints/``        best and last epoch while training runs; gone afterwards
``weights.pt``          the best epoch's weights
``golden_rows.npz``     tensors of the golden rows; ``golden_requests.json`` has their raw values
``catalogue.npz``       the encoded items by id; not there where item ids are hashed
``learning_curve.png``  ``calibration.png``
``metrics.json``        written last: a run without it has not finished
======================= ==========================================================================
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from feature_store.encoding.encoder import FeatureEncoder
from feature_store.schema_problems import readable_problems
from models.training.catalogue import Catalogue
from models.training.config import RunConfig
from models.training.golden_rows import GoldenRows
from models.training.network_inputs import network_inputs
from models.zoo.inputs import NetworkInputs
from models.zoo.registry import Network, build_network


class RunRefusedError(ValueError):
    """The directory is no finished run, or its files do not fit each other; the message names the file."""


class RunRecord(BaseModel):
    """What identifies a run and would repeat it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_version: Literal[1] = 1
    run_id: str
    views_name: str
    label: str
    data_fingerprint: str
    recipe: RunConfig


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths within one run's directory."""

    root: Path

    @property
    def record(self) -> Path:
        """Run id and recipe."""
        return self.root / "config.json"

    @property
    def views(self) -> Path:
        """The feature views."""
        return self.root / "views.yaml"

    @property
    def encoder(self) -> Path:
        """The fitted encoder."""
        return self.root / "encoder.json"

    @property
    def checkpoints(self) -> Path:
        """Lightning's checkpoints, while training runs."""
        return self.root / "checkpoints"

    @property
    def weights(self) -> Path:
        """The best epoch's weights."""
        return self.root / "weights.pt"

    @property
    def golden_rows(self) -> Path:
        """Tensors of the golden rows."""
        return self.root / "golden_rows.npz"

    @property
    def golden_requests(self) -> Path:
        """Raw values of the golden rows."""
        return self.root / "golden_requests.json"

    @property
    def catalogue(self) -> Path:
        """The encoded items by id."""
        return self.root / "catalogue.npz"

    @property
    def metrics(self) -> Path:
        """Metrics, written last."""
        return self.root / "metrics.json"

    def start(self, record: RunRecord, encoder: FeatureEncoder, views: Path) -> None:
        """Make the directory and write what is known before training.

        Raises:
            FileExistsError: the directory is there already.
        """
        self.root.mkdir(parents=True)
        self.views.write_bytes(views.read_bytes())
        self.encoder.write_text(encoder.dumps(), encoding="utf-8")
        self.record.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def read_record(self) -> RunRecord:
        """The record.

        Raises:
            RunRefusedError: missing or broken.
        """
        try:
            return RunRecord.model_validate_json(self.record.read_bytes())
        except OSError as error:
            raise RunRefusedError(f"{self.record}: {error.strerror}: not a training run's directory") from None
        except ValidationError as error:
            raise RunRefusedError("; ".join(f"{self.record}: {line}" for line in readable_problems(error))) from None

    def write_golden(self, golden: GoldenRows) -> None:
        """Keep the golden rows for the export."""
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in golden.tensors.items()}
        np.savez(self.golden_rows, **arrays)
        self.golden_requests.write_text(json.dumps(golden.requests, ensure_ascii=False) + "\n", encoding="utf-8")

    def write_catalogue(self, catalogue: Catalogue | None) -> None:
        """Keep the encoded items for the export, where there are any by id."""
        if catalogue is not None:
            arrays: dict[str, Any] = {**catalogue}
            np.savez(self.catalogue, **arrays)


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A finished run, read back: the network in evaluation mode with its weights."""

    directory: RunDirectory
    record: RunRecord
    encoder: FeatureEncoder
    inputs: NetworkInputs
    network: Network
    golden: dict[str, Tensor]
    catalogue: Catalogue | None
    metrics: dict[str, Any]


def read_run(root: Path) -> TrainedRun:
    """Read a finished run.

    Raises:
        RunRefusedError: the run has not finished, or a file is missing or broken.
    """
    directory = RunDirectory(root)
    record = directory.read_record()
    if not directory.metrics.exists():
        raise RunRefusedError(f"{directory.metrics} is missing: training has not finished; go on with `train --resume {root}`")
    try:
        return _read_finished(directory, record)
    except (OSError, ValueError, RuntimeError) as error:
        raise RunRefusedError(f"{root}: a file of the run is missing or broken: {error}") from error


def _read_finished(directory: RunDirectory, record: RunRecord) -> TrainedRun:
    encoder = FeatureEncoder.loads(directory.encoder.read_bytes())
    inputs = network_inputs(encoder)
    network = build_network(record.recipe.network, record.recipe.network_options(), inputs, record.label)
    network.load_state_dict(_read_weights(directory.weights))
    network.eval()
    with np.load(directory.golden_rows, allow_pickle=False) as arrays:
        golden = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    metrics = json.loads(directory.metrics.read_bytes())
    catalogue = _read_catalogue(directory.catalogue)
    return TrainedRun(directory, record, encoder, inputs, network, golden, catalogue, metrics)


def _read_catalogue(path: Path) -> Catalogue | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # On bytes that are no weights the unpickler raises whatever they lead it to.
    except Exception as error:
        raise RunRefusedError(f"{path}: not weights: {error}") from error
    return weights
