"""A textbook network to a published version, by the same way as a trained run: graph, parity, golden rows, manifest last."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from models.bench_world.textbook import TextbookDeepFM, TextbookDIN, TextbookNetwork, TextbookSizes
from models.export import publish_run
from models.manifest import Manifest
from models.repository import ModelRepository
from models.training.catalogue import catalogue_of
from models.training.config import RunConfig
from models.training.golden_rows import choose_golden_rows
from models.training.rows import TrainingData
from models.training.run import library_versions
from models.training.run_directory import RunDirectory, RunRecord, TrainedRun
from models.zoo.inputs import NetworkInputs
from models.zoo.registry import Network

RUN_ID = "bench-world"
_LIBRARIES = ("torch", "numpy", "polars")
_NETWORKS: dict[str, type[TextbookNetwork]] = {"deepfm": TextbookDeepFM, "din": TextbookDIN}
NAMES = tuple(_NETWORKS)


@dataclass(frozen=True, slots=True)
class Source:
    """What the world's models are published from: the data, the YAML behind it, the sizes of networks, the seed of weights."""

    data: TrainingData
    views: Path
    views_name: str
    sizes: TextbookSizes
    seed: int


def build_textbook(name: str, sizes: TextbookSizes, inputs: NetworkInputs, label: str) -> TextbookNetwork:
    """The textbook network called ``name`` (one of ``NAMES``), its weights not yet drawn."""
    return _NETWORKS[name](sizes, inputs, label)


def recipe_of(name: str, sizes: TextbookSizes, label: str, seed: int) -> RunConfig:
    """The recipe whose network in ``models/zoo`` is the same function as the textbook network called ``name``."""
    options: dict[str, Any] = {"embedding_size": sizes.embedding, "hidden": list(sizes.hidden), "dropout": 0.0}
    if name == "din":
        options |= {"item_embedding_size": sizes.item_embedding, "attention_hidden": list(sizes.attention_hidden)}
    return RunConfig(network=name, label=label, options=options, seed=seed)


def publish_textbook(name: str, network: TextbookNetwork, source: Source, *, scratch: Path, to: ModelRepository) -> Manifest:
    """Publish ``network`` under ``name``, as if a run in ``scratch`` (made here) had trained it; its metrics are empty.

    Raises:
        ParityError: the graph does not say what torch says; nothing is published.
    """
    data = source.data
    record = RunRecord(
        run_id=RUN_ID,
        views_name=source.views_name,
        label=network.label,
        data_fingerprint=data.fingerprint,
        recipe=recipe_of(name, source.sizes, network.label, source.seed),
    )
    golden = choose_golden_rows(data.test, data.inputs)
    directory = RunDirectory(scratch)
    directory.start(record, data.encoder, source.views)
    directory.write_golden(golden)
    run = TrainedRun(
        directory=directory,
        record=record,
        encoder=data.encoder,
        inputs=data.inputs,
        # No network of the zoo, but all that an export asks of one: its label, uses_history, and the zoo's tensors in and out.
        network=cast("Network", network),
        golden=golden.tensors,
        catalogue=catalogue_of(data.encoder, data.test.store.blocks["item"]),
        metrics={"valid": {}, "test": {}, "training": {}, "library_versions": library_versions(_LIBRARIES)},
    )
    return publish_run(run, to, name)
