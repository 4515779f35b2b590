"""The whole world in one folder.

=========================== =====================================================================
``views.yaml``              with ``users``, ``items`` and ``interactions`` as Parquet beside it
``models/``                 ``deepfm`` and ``din``, published
``plan-deepfm.yaml``        everybody gets ``deepfm``; ``plan-din.yaml`` likewise
``plan-ab.yaml``            everybody gets ``deepfm`` through three layers of experiments
``ids.json``                ``users`` and ``items``: the ids as they go over the wire; written last
=========================== =====================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from feature_store.tables import read_tables
from feature_store.views import load_views
from models.bench_world.plans import experiments_plan, model_plan
from models.bench_world.publish import NAMES, Source, build_textbook, publish_textbook
from models.bench_world.tables import BenchWorldConfig, BenchWorldError, draw_tables
from models.bench_world.textbook import TextbookSizes
from models.bench_world.views import BENCH_VIEWS, LABEL
from models.bench_world.weights import draw_weights
from models.datasets.files import write_data_set
from models.manifest import Manifest
from models.repository import ModelRepository
from models.training.rows import TrainingData, build_training_data

_CALIBRATION_ROWS = 1_000


def write_bench_world(config: BenchWorldConfig, out: Path, sizes: TextbookSizes | None = None) -> list[Manifest]:
    """Make the world in ``out``; returns what was published. Weights, data and ids are the same for the same config.

    Raises:
        BenchWorldError: ``out`` holds something already.
        OSError: it cannot be written.
        ParityError: an exported graph does not say what torch says.
    """
    if out.exists() and any(out.iterdir()):
        raise BenchWorldError(f"{out} is not empty: remove it, or name another folder")
    tables = draw_tables(config)
    views_path = write_data_set(tables, BENCH_VIEWS, out)
    manifests = list(_publish(config, views_path, sizes or TextbookSizes(), ModelRepository(out / "models")))
    for name in NAMES:
        (out / f"plan-{name}.yaml").write_text(model_plan(name), encoding="utf-8")
    (out / "plan-ab.yaml").write_text(experiments_plan(), encoding="utf-8")
    ids = {"users": tables.users["user_id"].to_list(), "items": tables.items["item_id"].to_list()}
    (out / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
    return manifests


def _publish(
    config: BenchWorldConfig, views_path: Path, sizes: TextbookSizes, repository: ModelRepository
) -> Iterator[Manifest]:
    views = load_views(views_path)
    data = build_training_data(views, read_tables(views, views_path.parent))
    source = Source(data, views_path, views.name, sizes, config.seed)
    batch = data.train.batch(calibration_places(data))
    for name in NAMES:
        network = build_textbook(name, sizes, data.inputs, LABEL)
        draw_weights(network, batch, torch.Generator().manual_seed(config.seed))
        with TemporaryDirectory() as scratch:
            yield publish_textbook(name, network, source, scratch=Path(scratch) / name, to=repository)


def calibration_places(data: TrainingData) -> np.ndarray:
    """Places in ``data.train`` of the rows that weights are fitted to: spread over its later half, where histories are long."""
    rows = len(data.train)
    return np.unique(np.linspace(rows // 2, rows - 1, _CALIBRATION_ROWS).astype(np.int64))
