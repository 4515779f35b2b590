"""A version is loaded whole and warm, or refused with the check that failed and what was measured."""

import math
import random

import numpy as np
import pytest

from service.scoring.errors import (
    ModelRefusedError,
    ProviderUnavailableError,
)
from service.scoring.loaded_model import LoadSettings, load_model
from service.scoring.onnx_session import OnnxSession, SessionSettings
from service.scoring.policies import BatchLimits
from service.scoring.version_loading import LoadRule
from tests.service.scoring.graphs import (
    ITEM_WEIGHTS,
    GraphSpec,
    TensorProto,
    encoder,
    external_weights,
    golden_arrays,
    graph_bytes,
    item_weights_tensor,
    npz_bytes,
    publish,
    rewrite_manifest,
)


def shaped(**shapes):
    spec = GraphSpec()
    spec.shapes.update(shapes)
    return graph_bytes(spec)


def column_of_scores():
    spec = GraphSpec(score_shape=(-1, 1))
    spec.shapes.update(ctr=["rows", 1], cvr=["rows", 1])
    return graph_bytes(spec)


def refused(load, published, message):
    with pytest.raises(ModelRefusedError, match=message) as error:
        load(published)
    assert str(error.value).startswith("tiny@1 refused: ")


def test_no_single_flipped_bit_of_the_graph_is_ever_loaded(load, repository):
    published = publish(repository)
    path = published.directory / "model.onnx"
    content = path.read_bytes()
    choice = random.Random(20260101)
    for bit in choice.sample(range(len(content) * 8), 400):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        refused(load, published, "model.onnx: SHA-256 differs")


@pytest.mark.parametrize("file", ["model.onnx", "encoder.json", "golden.npz", "notes.txt"])
def test_an_altered_or_missing_file_is_refused(load, repository, file):
    published = publish(repository, extra_files={"notes.txt": b"x"})
    path = published.directory / file
    path.write_bytes(path.read_bytes() + b" ")
    refused(load, published, f"{file}: SHA-256 differs")
    path.unlink()
    refused(load, published, f"{file}: No such file")
    path.symlink_to(published.directory / "manifest.json")
    refused(load, published, f"{file}: links are not followed")


def test_true_hashes_over_wrong_weights_are_caught_by_the_golden_rows(load, repository):
    shuffler = np.random.default_rng(7)
    for _ in range(20):
        weights = shuffler.permutation(ITEM_WEIGHTS)
        published = publish(
            repository,
            f"tiny{shuffler.integers(1 << 30)}",
            onnx_bytes=graph_bytes(GraphSpec(weights=item_weights_tensor(weights))),
        )
        with pytest.raises(
            ModelRefusedError, match=r"golden rows deviate from torch's scores by [0-9.e-]+, above the tolerance of 1e-05"
        ):
            load(published)


def test_true_hashes_over_a_broken_graph_do_not_help(load, repository):
    published = publish(repository)
    content = (published.directory / "model.onnx").read_bytes()
    for broken in (b"", content[:-30], content[: len(content) // 2], b"garbage" * 100):
        (published.directory / "model.onnx").write_bytes(broken)
        refused(load, rewrite_manifest(published), "ONNX Runtime does not accept the graph")


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (
            graph_bytes(GraphSpec(renamed={"history": "past"})),
            "input history: in the manifest, not in the graph; input past: in the graph, not in the manifest",
        ),
        (graph_bytes(GraphSpec(renamed={"ctr": "score"})), "output ctr: in the manifest, not in the graph; output score"),
        (graph_bytes(GraphSpec(without=("cvr",))), "output cvr: in the manifest, not in the graph"),
        (
            graph_bytes(GraphSpec(types={"item_categories": TensorProto.INT64})),
            r"input item_categories: the manifest says int32 \[any, 1\], the graph has int64 \[any, 1\]",
        ),
        (
            graph_bytes(GraphSpec(types={"user_numbers": TensorProto.DOUBLE})),
            "input user_numbers: the manifest says float32 .*, the graph has float64",
        ),
        (
            graph_bytes(GraphSpec(types={"ctr": TensorProto.DOUBLE})),
            "output ctr: the manifest says float32 .*, the graph has float64",
        ),
        (
            graph_bytes(GraphSpec(types={"history": TensorProto.BFLOAT16})),
            r"input history: the manifest says int32 .*, the graph has .*bfloat16",
        ),
        (shaped(history=["users", 4]), r"input history: the manifest says int32 \[any, 3\], the graph has int32 \[any, 4\]"),
        (shaped(history=[1, 3]), r"input history: .*the graph has int32 \[1, 3\]"),
        (shaped(history=["users", 3, 1]), r"input history: .*the graph has int32 \[any, 3, 1\]"),
        (
            column_of_scores(),
            r"output ctr: the manifest says float32 \[any\], the graph has float32 \[any, 1\]",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "graph",
)
def test_a_graph_that_is_not_the_manifests_is_refused_with_the_difference(load, repository, graph, message):
    refused(load, publish(repository, onnx_bytes=graph), message)


def test_a_width_that_the_graph_leaves_open_is_settled_by_the_golden_rows(load, repository):
    assert load(publish(repository, onnx_bytes=shaped(attention=["rows", "time"]))).has_attention


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["outputs"][2].update(meaning="logit"), "output attention: its meaning is logit"),
        (lambda data: data["outputs"][1].update(meaning="attention"), "output cvr: its meaning is attention"),
        (lambda data: data.update(history_length=4), "history length: the encoder cuts at 3, not 4"),
        (lambda data: data["inputs"].pop(), "input row_user: needed exactly when another input stands on the users axis"),
        (lambda data: data.update(uses_history=False), "uses_history is False, against the inputs"),
        (
            lambda data: data.update(encoder_fingerprint="f" * 64),
            "encoder.json: fingerprint [0-9a-f]{64} is not the manifest's f{64}",
        ),
        (
            lambda data: data["inputs"][2].update(width=2),
            r"input item_categories: the encoder gives int32 \[rows, 1\], not int32 \[rows, 2\]",
        ),
        (lambda data: data["inputs"][2].update(axis="users"), r"the encoder gives int32 \[rows, 1\], not int32 \[users, 1\]"),
        (lambda data: data["inputs"][0].update(name="user_categories"), "input user_categories: the encoder has no such block"),
    ],
)
def test_a_manifest_that_the_encoder_or_the_graph_cannot_keep_is_refused(load, repository, change, message):
    refused(load, publish(repository, change=change), message)


def test_a_row_user_without_users_is_refused(load, repository):
    def only_rows(data):
        data["inputs"] = [each for each in data["inputs"] if each["axis"] == "rows"]
        data["uses_history"] = False

    refused(load, publish(repository, change=only_rows), "input row_user: needed exactly when")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"schema": 1}', encoder().dumps()[:-1], '{"schema": 2}'])
def test_a_broken_encoder_is_refused(load, repository, text):
    refused(load, publish(repository, encoder_text=text), "encoder.json: ")


def test_golden_rows_that_the_model_does_not_reproduce_are_refused(load, repository):
    arrays = golden_arrays()
    arrays["output.cvr"] = arrays["output.cvr"] + np.array([0, 0, 1], np.float32)
    refused(
        load,
        publish(repository, golden=npz_bytes(arrays)),
        r"golden rows deviate from torch's scores by 0.00033\d*, above the tolerance",
    )


def test_the_tolerance_is_a_setting(scheduler, observer, repository):
    arrays = golden_arrays()
    arrays["output.cvr"] = arrays["output.cvr"] + np.array([0, 0, 1], np.float32)
    settings = LoadSettings(LoadRule(SessionSettings("cpu", 1), golden_tolerance=1e-3), BatchLimits(8, 8))
    load_model(publish(repository, golden=npz_bytes(arrays)), settings, scheduler=scheduler, observer=observer)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_golden_rows_without_a_finite_score_are_refused(load, repository, bad):
    arrays = golden_arrays()
    arrays["input.candidate_numbers"][1] = bad
    message = "golden rows cannot be scored: output ctr: 1 of 1 values are not finite"
    refused(load, publish(repository, golden=npz_bytes(arrays)), message)


def test_golden_rows_that_the_graph_cannot_run_are_refused(load, repository):
    arrays = golden_arrays()
    arrays["input.item_categories"][1] = 10_000
    refused(load, publish(repository, golden=npz_bytes(arrays)), "golden rows cannot be scored: .*Gather")


def test_external_data_is_taken_from_listed_files_only(load, repository):
    model = graph_bytes(GraphSpec(weights=external_weights("model.onnx.data")))
    listed = publish(repository, "listed", onnx_bytes=model, extra_files={"model.onnx.data": ITEM_WEIGHTS.tobytes()})
    assert load(listed).name == "listed"
    unlisted = publish(repository, onnx_bytes=model)
    (unlisted.directory / "model.onnx.data").write_bytes(ITEM_WEIGHTS.tobytes())
    refused(load, unlisted, "ONNX Runtime does not accept the graph")


def test_demanding_cuda_where_there_is_none_is_a_clear_error(scheduler, observer, repository):
    settings = LoadSettings(LoadRule(SessionSettings("cuda", 1)), BatchLimits(8, 8))
    with pytest.raises(ProviderUnavailableError, match="CUDA was asked for"):
        load_model(publish(repository), settings, scheduler=scheduler, observer=observer)


def test_the_largest_batch_is_warm_before_the_model_is_handed_out(load, repository, monkeypatch):
    seen = []
    run = OnnxSession.run
    monkeypatch.setattr(
        OnnxSession,
        "run",
        lambda self, outputs, feeds: seen.append((len(feeds["row_user"]), len(outputs))) or run(self, outputs, feeds),
    )
    load(publish(repository))
    sizes = {rows for rows, _ in seen}
    assert min(sizes) == 1
    assert max(sizes) >= 256
    assert {outputs for _, outputs in seen} == {2, 3}
