"""Bare ONNX Runtime: a loop over ``run`` with ready-made arrays, on one thread. What the service is measured against.

``python -m loadtest.bench.bare`` reads lines of JSON, each a ``BareTask``, and answers each with seconds per run, so that
graphs are loaded and warmed up once and the runs can be interleaved with everything else.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


@dataclass(frozen=True, slots=True)
class BareTask:
    """Run ``form`` (plain: the textbook graph; one_user: the rewritten one) of a version over ``rows`` for ``seconds``."""

    version: str
    form: str
    rows: int
    seconds: float


def main() -> None:
    """Answer tasks until standard input ends."""
    for line in sys.stdin:
        sys.stdout.write(f"{_measure(BareTask(**json.loads(line)))}\n")
        sys.stdout.flush()


def _measure(task: BareTask) -> float:
    session, feeds = _session(task.version, task.form), feeds_of(task.version, task.form, task.rows)
    outputs = _outputs(task.version)
    started, runs = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < task.seconds or runs < 3:
        session.run(outputs, feeds)
        runs += 1
    return passed / runs


@cache
def _manifest(version: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((Path(version) / "manifest.json").read_text())
    return manifest


def _outputs(version: str) -> list[str]:
    return [each["name"] for each in _manifest(version)["outputs"] if each["meaning"] != "attention"]


@cache
def _session(version: str, form: str) -> onnxruntime.InferenceSession:
    manifest, options = _manifest(version), onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    file = manifest["onnx"] if form == "plain" else manifest["collapsed"][form]["onnx"]
    return onnxruntime.InferenceSession(str(Path(version) / file), options, providers=["CPUExecutionProvider"])


@cache
def feeds_of(version: str, form: str, rows: int) -> dict[str, np.ndarray]:
    """One user of the golden rows with items drawn from the catalogue, as arrays that a run takes as they are."""
    manifest, draw = _manifest(version), np.random.default_rng(1)
    inputs = manifest["inputs"] if form == "plain" else manifest["collapsed"][form]["inputs"]
    with np.load(Path(version) / manifest["golden"]) as archive:
        golden = {name.removeprefix("input."): archive[name] for name in archive.files if name.startswith("input.")}
    part = manifest["collapsed"]["item_part"]
    with np.load(Path(version) / part["table_inputs"]) as archive:
        catalogue = {name: archive[name] for name in archive.files}
    catalogue["item_part"] = np.load(Path(version) / part["table"], mmap_mode="r")
    items = draw.integers(2, len(catalogue["item_part"]), rows)
    # The first golden user has a history; rows that are the candidates' own are drawn from the golden ones.
    own = draw.integers(0, len(golden["row_user"]), rows)
    feeds = {}
    for each in inputs:
        name = each["name"]
        if name == "row_user":
            feeds[name] = np.zeros(rows, np.int32)
        elif name in catalogue:
            feeds[name] = np.ascontiguousarray(catalogue[name][items])
        else:
            feeds[name] = golden[name][:1] if each["axis"] == "users" else golden[name][own]
    return feeds


if __name__ == "__main__":
    main()
