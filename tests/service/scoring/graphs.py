"""A tiny published model whose scores are known in closed form: score = f(user, item), exact in float32.

``ctr[row] = 1000 * user_numbers[user] + ITEM_WEIGHTS[item] + candidate_numbers[row]``, ``cvr = -ctr`` and
``attention[row, t] = history[user, t] + candidate_numbers[row]``. A NaN or infinite ``candidate_numbers`` gives such a score.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_store.encoding.categories import CategoryColumn, VocabularyIds
from feature_store.encoding.encoder import FeatureEncoder, ViewEncoder
from feature_store.encoding.numbers import NumberColumn
from models.manifest import MANIFEST_FILE, ArtifactFile, GraphInput, GraphOutput, Manifest, Parity, TrainingRun
from models.repository import ModelReference, ModelRepository, PublishedVersion, sha256_of
from service.scoring.batch import ScoringRequest

onnx = pytest.importorskip("onnx", reason="the tests' graphs are built with onnx")
helper, TensorProto = onnx.helper, onnx.TensorProto

HISTORY_LENGTH = 3
ITEMS = 50
ITEM_IDS = ITEMS + 2
ITEM_WEIGHTS = (np.arange(ITEM_IDS) * 0.5).astype(np.float32)

INPUTS = (
    GraphInput(name="user_numbers", dtype="float32", axis="users", width=1),
    GraphInput(name="history", dtype="int32", axis="users", width=HISTORY_LENGTH),
    GraphInput(name="item_categories", dtype="int32", axis="rows", width=1),
    GraphInput(name="candidate_numbers", dtype="float32", axis="rows", width=1),
    GraphInput(name="row_user", dtype="int32", axis="rows"),
)
OUTPUTS = (
    GraphOutput(name="ctr", meaning="logit"),
    GraphOutput(name="cvr", meaning="logit"),
    GraphOutput(name="attention", meaning="attention"),
)
OPSET = 18


def item_weights_tensor(weights: np.ndarray = ITEM_WEIGHTS) -> Any:
    return onnx.numpy_helper.from_array(weights, "item_weights")


@dataclass
class GraphSpec:
    """The graph with whatever a test wants different."""

    shapes: dict[str, list[Any]] = field(
        default_factory=lambda: {
            "user_numbers": ["users", 1],
            "history": ["users", HISTORY_LENGTH],
            "item_categories": ["rows", 1],
            "candidate_numbers": ["rows", 1],
            "row_user": ["rows"],
            "ctr": ["rows"],
            "cvr": ["rows"],
            "attention": ["rows", HISTORY_LENGTH],
        }
    )
    renamed: dict[str, str] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    weights: Any = None
    opset: int = OPSET
    without: tuple[str, ...] = ()
    score_shape: tuple[int, ...] = (-1,)


def _value(spec: GraphSpec, name: str, default_type: int) -> Any:
    return helper.make_tensor_value_info(spec.renamed.get(name, name), spec.types.get(name, default_type), spec.shapes[name])


def graph_bytes(spec: GraphSpec | None = None) -> bytes:
    """The graph as ONNX bytes."""
    spec = spec or GraphSpec()
    n = {name: spec.renamed.get(name, name) for name in spec.shapes}
    nodes = [
        helper.make_node("Cast", [n["user_numbers"]], ["user_f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [n["candidate_numbers"]], ["candidate_f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [n["item_categories"]], ["item_i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["user_f", n["row_user"]], ["user_row"], axis=0),
        helper.make_node("Mul", ["user_row", "thousand"], ["user_part"]),
        helper.make_node("Gather", ["item_weights", "item_i"], ["item_part"], axis=0),
        helper.make_node("Add", ["user_part", "item_part"], ["sum_1"]),
        helper.make_node("Add", ["sum_1", "candidate_f"], ["sum_2"]),
        helper.make_node("Reshape", ["sum_2", "flat"], ["ctr_f"]),
        helper.make_node("Cast", ["ctr_f"], [n["ctr"]], to=spec.types.get("ctr", TensorProto.FLOAT)),
        helper.make_node("Neg", ["ctr_f"], [n["cvr"]]),
        helper.make_node("Cast", [n["history"]], ["history_f"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["history_f", n["row_user"]], ["history_row"], axis=0),
        helper.make_node("Add", ["history_row", "candidate_f"], [n["attention"]]),
    ]
    inputs = [
        _value(spec, "user_numbers", TensorProto.FLOAT),
        _value(spec, "history", TensorProto.INT32),
        _value(spec, "item_categories", TensorProto.INT32),
        _value(spec, "candidate_numbers", TensorProto.FLOAT),
        _value(spec, "row_user", TensorProto.INT32),
    ]
    outputs = [_value(spec, name, TensorProto.FLOAT) for name in ("ctr", "cvr", "attention") if name not in spec.without]
    initializers = [
        spec.weights if spec.weights is not None else item_weights_tensor(),
        onnx.numpy_helper.from_array(np.array([1000.0], np.float32), "thousand"),
        onnx.numpy_helper.from_array(np.array(spec.score_shape, np.int64), "flat"),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializer=initializers)
    opsets = [helper.make_opsetid("", spec.opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def external_weights(location: str, *, offset: int = 0, length: int = ITEM_IDS * 4) -> Any:
    """The item weights as a reference to a file."""
    tensor = TensorProto(name="item_weights", data_type=TensorProto.FLOAT, dims=[ITEM_IDS], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def encoder() -> FeatureEncoder:
    """An encoder that gives exactly the graph's inputs."""
    plain = {"fill": 0.0, "shift": 0.0, "scale": 1.0}
    item = CategoryColumn("item_id", VocabularyIds([f"i{n}" for n in range(ITEMS)]), slots=1, multiple=False)
    views = {
        "user": ViewEncoder((), (NumberColumn("level", "none", **plain),)),
        "context": ViewEncoder((), ()),
        "item": ViewEncoder((item,), ()),
        "candidate": ViewEncoder((), (NumberColumn("bid", "none", **plain),)),
    }
    return FeatureEncoder(views, "item_id", HISTORY_LENGTH)


def request_of(user: float, items: Any, candidate: Any = 0.0, *, attention: bool = False) -> ScoringRequest:
    """One user's request over item ids."""
    ids = np.asarray(items, dtype=np.int32).reshape(-1, 1)
    numbers = np.broadcast_to(np.asarray(candidate, np.float32).reshape(-1, 1), ids.shape).copy()
    history = np.full((1, HISTORY_LENGTH), int(user) % ITEM_IDS, np.int32)
    inputs = {
        "user_numbers": np.array([[user]], np.float32),
        "history": history,
        "item_categories": ids,
        "candidate_numbers": numbers,
    }
    return ScoringRequest(inputs, rows=len(ids), want_attention=attention)


def expected_ctr(request: ScoringRequest) -> np.ndarray:
    """The slow reference, row by row in Python floats."""
    user = float(request.inputs["user_numbers"][0, 0])
    items, numbers = request.inputs["item_categories"][:, 0], request.inputs["candidate_numbers"][:, 0]
    return np.array([1000.0 * user + 0.5 * int(item) + float(number) for item, number in zip(items, numbers, strict=True)])


def golden_arrays() -> dict[str, np.ndarray]:
    """Two users, three rows, not in the users' order."""
    row_user = np.array([1, 0, 1], np.int32)
    user = np.array([[2.0], [3.0]], np.float32)
    history = np.array([[4, 0, 0], [5, 6, 7]], np.int32)
    items = np.array([[9], [10], [51]], np.int32)
    numbers = np.array([[0.25], [-0.5], [0.0]], np.float32)
    ctr = (1000.0 * user[row_user] + 0.5 * items + numbers)[:, 0].astype(np.float32)
    return {
        "input.user_numbers": user,
        "input.history": history,
        "input.item_categories": items,
        "input.candidate_numbers": numbers,
        "input.row_user": row_user,
        "output.ctr": ctr,
        "output.cvr": -ctr,
        "output.attention": (history[row_user] + numbers).astype(np.float32),
    }


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def publish(
    repository: ModelRepository,
    name: str = "tiny",
    *,
    onnx_bytes: bytes | None = None,
    golden: bytes | None = None,
    encoder_text: str | None = None,
    extra_files: Mapping[str, bytes] | None = None,
    change: Callable[[dict[str, Any]], None] = lambda manifest: None,
) -> PublishedVersion:
    """Publish the tiny model, with whatever a test wants different; ``change`` edits the manifest as JSON data."""
    fitted = encoder()

    def manifest_of(version: int, files: tuple[ArtifactFile, ...]) -> Manifest:
        manifest = Manifest(
            name=name,
            version=version,
            created_at="2026-01-01T00:00:00Z",
            onnx="model.onnx",
            opset=OPSET,
            encoder="encoder.json",
            encoder_fingerprint=fitted.fingerprint,
            golden="golden.npz",
            files=files,
            inputs=INPUTS,
            outputs=OUTPUTS,
            views_name="tiny",
            history_length=HISTORY_LENGTH,
            uses_history=True,
            training=TrainingRun(
                run_id="r1", network="tiny", label="click", seed=1, data_fingerprint="0" * 64, metrics={}, library_versions={}
            ),
            parity=Parity(tolerance=1e-5, largest=0.0, cases={}),
        )
        data = manifest.model_dump(mode="json")
        change(data)
        return Manifest.model_validate_json(json.dumps(data))

    with repository.stage(name) as directory:
        (directory / "model.onnx").write_bytes(graph_bytes() if onnx_bytes is None else onnx_bytes)
        (directory / "encoder.json").write_text(fitted.dumps() if encoder_text is None else encoder_text, encoding="utf-8")
        (directory / "golden.npz").write_bytes(npz_bytes(golden_arrays()) if golden is None else golden)
        for file_name, content in (extra_files or {}).items():
            (directory / file_name).write_bytes(content)
        manifest = repository.publish(directory, manifest_of)
    return repository.open(ModelReference(name, manifest.version))


def rewrite_manifest(published: PublishedVersion) -> PublishedVersion:
    """Make the manifest's hashes true again after a file was changed: valid hashes over wrong content."""
    data = published.manifest.model_dump(mode="json")
    for file in data["files"]:
        file["sha256"] = sha256_of(published.directory / file["name"])
    manifest = Manifest.model_validate_json(json.dumps(data))
    Path(published.directory / MANIFEST_FILE).write_text(manifest.dumps(), encoding="utf-8")
    return PublishedVersion(published.directory, manifest)
