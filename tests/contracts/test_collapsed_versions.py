"""A collapsed version in the service's scoring code: the plain graph's scores from any mix of requests, or no service."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
import numpy as np
import pytest
import torch

from models.export import export_run
from models.manifest import ITEM_PART, MANIFEST_FILE
from models.repository import ModelReference, ModelRepository, sha256_of
from models.training.run import finish_run, start_run
from service.scoring.batch import ScoringRequest
from service.scoring.collapsed import block_of
from service.scoring.errors import ModelRefusedError, ScoringFailedError
from service.scoring.loaded_model import LoadSettings, load_model
from service.scoring.onnx_session import SessionSettings
from service.scoring.policies import BatchLimits, Policy
from service.scoring.scheduler import Scheduler
from service.scoring.version_loading import LoadRule
from tests.models.tiny_shop import tiny_recipe, write_tiny_shop
from tests.service.scoring.stand_ins import RecordingObserver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

POLICIES = [Policy("thread", 1_000, 1_000), Policy("inline", 7, 0), Policy("inline", 64, 32)]


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """network -> a published, collapsed version."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    shop = write_tiny_shop(tmp_path_factory.mktemp("shop"))
    runs, repository = tmp_path_factory.mktemp("runs"), ModelRepository(tmp_path_factory.mktemp("repository"))
    published = {}
    for network in ("deepfm", "din", "mean_pooling"):
        run = finish_run(start_run(shop, tiny_recipe(network, epochs=1), runs))
        manifest = export_run(run.directory.root, repository)
        assert manifest.collapsed is not None
        published[network] = repository.open(ModelReference(manifest.name, manifest.version))
    yield published
    torch.set_num_threads(before)


@pytest.fixture
def load():
    with ThreadPoolExecutor(max_workers=1) as executor:

        def load(version, policy=None, *, collapsed=True):
            settings = LoadSettings(
                LoadRule(SessionSettings("cpu", 1), collapsed=collapsed), BatchLimits(1_000, 100_000), policy
            )
            return partial(load_model, settings=settings, scheduler=Scheduler(executor), observer=RecordingObserver())(version)

        yield load


def random_request(model, rng, rows):
    """Raw values of all kinds, known and unknown, through the model's own encoder."""
    views, items = model.encoder.views, rng.integers(0, 25, rows)
    user = views["user"].encode_records([{"town": f"town{rng.integers(4)}", "age": float(rng.integers(90))}])
    context = views["context"].encode_records([{"device": ["phone", None][rng.integers(2)]}])
    records = [{"item_id": f"i{item}", "tags": [f"t{item % 5}"], "price": float(rng.integers(100))} for item in items]
    blocks = {
        "user": user,
        "context": context,
        "item": views["item"].encode_records(records),
        "candidate": views["candidate"].encode_records([{"place": f"p{rng.integers(3)}"} for _ in items]),
    }
    inputs = {f"{view}_categories": block.categories for view, block in blocks.items()}
    inputs |= {f"{view}_numbers": block.numbers for view, block in blocks.items()}
    inputs["history"] = model.encoder.encode_history([[f"i{item}" for item in rng.integers(0, 25, rng.integers(0, 7))]])
    return ScoringRequest({name: array for name, array in inputs.items() if array.shape[1]}, rows)


def with_item_part(model, request):
    part = model.item_table.compute(block_of(request.inputs, request.rows))
    others = {name: array for name, array in request.inputs.items() if not name.startswith("item_")}
    return ScoringRequest({**others, ITEM_PART: part}, request.rows, request.want_attention)


@pytest.mark.parametrize("network", ["deepfm", "din", "mean_pooling"])
@pytest.mark.parametrize("policy", POLICIES, ids=["thread", "tiles of 7", "merged tiles"])
async def test_collapsed_and_plain_requests_in_one_queue_have_the_plain_graphs_scores(load, versions, network, policy):
    rng, deadline = np.random.default_rng(3), time.monotonic() + 60
    model, plain = load(versions[network], policy), load(versions[network], policy, collapsed=False)
    asked = [random_request(model, rng, int(rng.integers(1, 40))) for _ in range(30)]
    asked = [msgspec.structs.replace(each, want_attention=bool(rng.integers(2)) and model.has_attention) for each in asked]
    mixed = [with_item_part(model, each) if rng.integers(2) else each for each in asked]
    answers = await asyncio.gather(*(model.score(each, deadline) for each in mixed))
    for request, answer in zip(asked, answers, strict=True):
        expected = (await plain.score(request, deadline)).scores.values
        assert set(answer.scores.values) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(answer.scores.values[name], values, rtol=0, atol=1e-5)


async def test_a_request_without_what_either_graph_needs_is_refused_by_name(load, versions):
    model = load(versions["deepfm"])
    request = random_request(model, np.random.default_rng(1), 3)
    bare = {name: array for name, array in request.inputs.items() if not name.startswith("item_")}
    with pytest.raises(ScoringFailedError, match="input item_categories: missing"):
        await model.score(ScoringRequest(bare, 3), time.monotonic() + 30)
    narrow = {**bare, ITEM_PART: np.zeros((3, model.item_table.width + 1), np.float32)}
    with pytest.raises(ScoringFailedError, match="input item_part"):
        await model.score(ScoringRequest(narrow, 3), time.monotonic() + 30)


def tampered(version, folder, file, change):
    """A copy of the version in which one file was changed and the manifest says so."""
    directory = folder / version.manifest.name / "1"
    shutil.copytree(version.directory, directory)
    change(directory / file)
    manifest = json.loads((directory / MANIFEST_FILE).read_text())
    for each in manifest["files"]:
        if each["name"] == file:
            each |= {"sha256": sha256_of(directory / file), "size_bytes": (directory / file).stat().st_size}
    manifest["version"] = 1
    (directory / MANIFEST_FILE).write_text(json.dumps(manifest))
    return ModelRepository(folder).open(ModelReference(version.manifest.name, 1))


def other_numbers(path):
    np.save(path, np.load(path) * np.float32(1.01) + np.float32(0.01))


def too_short(path):
    np.save(path, np.load(path)[:-1])


def no_array(path):
    path.write_bytes(b"\x93NUMPY nothing")


def of_objects(path):
    np.save(path, np.array([{}], object), allow_pickle=True)


@pytest.mark.parametrize(
    "tampering",
    [
        ("item_part.npy", other_numbers, "does not hold what the item graph makes"),
        ("item_part.npy", too_short, r"item_part.npy: float32 \[\d+, \d+\] is needed"),
        ("item_part.npy", no_array, "item_part.npy: not an array"),
        ("item_part.npy", of_objects, "item_part.npy: not an array"),
        ("item_inputs.npz", no_array, "item_inputs.npz: not an archive"),
        (
            "one_user.onnx",
            lambda path: shutil.copyfile(path.with_name("many_users.onnx"), path),
            "one_user.onnx: input row_user",
        ),
        (
            "many_users.onnx",
            lambda path: shutil.copyfile(path.with_name("one_user.onnx"), path),
            "many_users.onnx: input row_user",
        ),
        ("item.onnx", lambda path: shutil.copyfile(path.with_name("model.onnx"), path), "item.onnx: "),
    ],
)
def test_a_version_whose_parts_do_not_fit_each_other_does_not_serve(load, versions, tmp_path, tampering):
    file, change, said = tampering
    version = tampered(versions["deepfm"], tmp_path, file, change)
    with pytest.raises(ModelRefusedError, match=said):
        load(version)
    assert load(version, collapsed=False).name == "deepfm"


def test_a_file_that_is_not_the_published_one_does_not_serve(load, versions, tmp_path):
    directory = tmp_path / "deepfm" / "1"
    shutil.copytree(versions["deepfm"].directory, directory)
    other_numbers(directory / "item_part.npy")
    with pytest.raises(ModelRefusedError, match="SHA-256 differs"):
        load(ModelRepository(tmp_path).open(ModelReference("deepfm", 1)))


def test_the_shared_table_is_mapped_not_copied(load, versions):
    model = load(versions["deepfm"])
    shared = model.item_table._source.shared
    while shared.base is not None and not isinstance(shared, np.memmap):
        shared = shared.base
    assert isinstance(shared, np.memmap)
    assert not shared.flags.writeable
