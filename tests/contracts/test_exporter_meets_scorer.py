"""The exporter writes, the scorer reads; they meet only in the manifest. What the one publishes, the other serves."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
import onnx
import pytest
import torch

from models import export
from models.manifest import GOLDEN_INPUT, GOLDEN_OUTPUT
from models.repository import ModelReference, ModelRepository
from models.training.run import finish_run, start_run
from service.scoring.batch import ScoringRequest
from service.scoring.errors import ModelRefusedError, ScoringFailedError
from service.scoring.loaded_model import LoadSettings, load_model
from service.scoring.onnx_session import SessionSettings
from service.scoring.policies import BatchLimits, Policy
from service.scoring.scheduler import Scheduler
from service.scoring.version_loading import LoadRule
from tests.models.tiny_shop import tiny_recipe, write_tiny_shop
from tests.service.scoring.stand_ins import RecordingObserver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NETWORKS = ("deepfm", "din")


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    """Tiny tensors gain nothing from a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_tiny_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def version_of(shop, tmp_path_factory):
    """network -> its published version, from a run of a second or two."""
    runs, repository = tmp_path_factory.mktemp("runs"), ModelRepository(tmp_path_factory.mktemp("repository"))

    @cache
    def publish(network):
        run = finish_run(start_run(shop, tiny_recipe(network, epochs=1), runs))
        manifest = export.export_run(run.directory.root, repository)
        return repository.open(ModelReference(manifest.name, manifest.version))

    return publish


@pytest.fixture
def load():
    settings = LoadSettings(LoadRule(SessionSettings("cpu", 1)), BatchLimits(1_000, 100_000), Policy("thread", 1_000, 1_000))
    with ThreadPoolExecutor(max_workers=1) as executor:
        yield partial(load_model, settings=settings, scheduler=Scheduler(executor), observer=RecordingObserver())


def golden_of(version):
    with np.load(version.directory / version.manifest.golden) as archive:
        return dict(archive)


def request_of(version, golden, user):
    """One user's golden rows as a request, and their places."""
    rows = np.flatnonzero(golden[GOLDEN_INPUT + "row_user"] == user)
    places = {"users": [user], "rows": rows}
    inputs = {each.name: golden[GOLDEN_INPUT + each.name][places[each.axis]] for each in version.manifest.inputs}
    return ScoringRequest(inputs, rows=len(rows), want_attention=True), rows


@pytest.mark.parametrize("network", NETWORKS)
async def test_a_published_version_loads_and_gives_torchs_scores_to_concurrent_users(load, version_of, network):
    version = version_of(network)
    model, golden, deadline = load(version), golden_of(version), time.monotonic() + 30
    users = sorted(set(golden[GOLDEN_INPUT + "row_user"].tolist()))
    asked = [request_of(version, golden, user) for user in users]
    answers = await asyncio.gather(*(model.score(request, deadline) for request, _ in asked))
    for (_, rows), answer in zip(asked, answers, strict=True):
        assert set(answer.scores.values) == {output.name for output in version.manifest.outputs}
        for name, values in answer.scores.values.items():
            np.testing.assert_allclose(values, golden[GOLDEN_OUTPUT + name][rows], rtol=0, atol=1e-5)
    assert await model.check_golden(deadline) <= 1e-5


@pytest.mark.parametrize(("network", "history"), [("deepfm", False), ("din", True)])
def test_the_loaded_model_knows_what_the_network_reads_and_gives(load, version_of, network, history):
    model = load(version_of(network))
    assert (model.name, model.uses_history, model.has_attention) == (network, history, history)
    assert model.score_names == ("click",)


@pytest.mark.parametrize("network", NETWORKS)
async def test_what_the_fitted_encoder_gives_is_what_the_graph_takes(load, version_of, network):
    """Raw values never seen in training, encoded by the artifact's own encoder, with every block there is."""
    model = load(version_of(network))
    views = model.encoder.views
    blocks = {
        "user": views["user"].encode_records([{"town": "nowhere", "age": 200}]),
        "context": views["context"].encode_records([{}]),
        "item": views["item"].encode_records([{"item_id": "i1", "tags": ["t1"], "price": 3}, {"item_id": "unseen"}]),
        "candidate": views["candidate"].encode_records([{"place": "p1"}, {}]),
    }
    inputs = {f"{view}_categories": block.categories for view, block in blocks.items()}
    inputs |= {f"{view}_numbers": block.numbers for view, block in blocks.items()}
    inputs["history"] = model.encoder.encode_history([["i1", "unseen"]])
    scored = await model.score(ScoringRequest(inputs, rows=2), time.monotonic() + 30)
    assert np.all((scored.scores.values["click"] > 0) & (scored.scores.values["click"] < 1))


async def test_an_id_beyond_the_exported_table_never_reaches_it(load, version_of):
    version = version_of("din")
    model, (request, _) = load(version), request_of(version, golden_of(version), 0)
    history = request.inputs["history"].copy()
    history[0, 0] = model.encoder.item_key_column.ids.cardinality
    with pytest.raises(ScoringFailedError, match="input history, row 0, slot 0"):
        await model.score(ScoringRequest({**request.inputs, "history": history}, request.rows), time.monotonic() + 30)


def items_only(shop):
    """The shop's views without anything on the users axis."""
    text = shop.read_text()
    start, end = text.index("    - {name: town"), text.index("item:\n")
    text = (text[:start] + text[end:]).replace("  key: user_id\n  fields:\n", "  key: user_id\n  fields: []\n")
    path = shop.with_name("items-only.yaml")
    path.write_text(text.replace("  - {name: device, kind: category}\n", ""))
    return path


def test_a_graph_without_users_and_with_its_tables_beside_it_is_loaded_and_checked(load, shop, tmp_path, monkeypatch):
    monkeypatch.setattr("models.weight_files.TABLE_BYTES", 0)
    run = finish_run(start_run(items_only(shop), tiny_recipe("deepfm", epochs=1), tmp_path / "runs"))
    repository = ModelRepository(tmp_path / "repository")
    manifest = export.export_run(run.directory.root, repository)
    assert {each.axis for each in manifest.inputs} == {"rows"}
    assert "row_user" not in {each.name for each in manifest.inputs}
    assert manifest.shared_weights
    version = repository.open(ModelReference("deepfm", None))
    assert load(version).score_names == ("click",)
    for name in manifest.shared_weights.values():
        weights = version.directory / name
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ModelRefusedError, match=f"{name}: SHA-256 differs"):
            load(version)
        weights.write_bytes(content)


@pytest.fixture
def version_outside(shop, tmp_path, monkeypatch):
    """network -> a version of the same run whose tables are all in files of their own."""

    def publish(network):
        monkeypatch.setattr("models.weight_files.TABLE_BYTES", 0)
        run = finish_run(start_run(shop, tiny_recipe(network, epochs=1), tmp_path / "runs"))
        repository = ModelRepository(tmp_path / "repository")
        export.export_run(run.directory.root, repository)
        return repository.open(ModelReference(network, None))

    return publish


@pytest.mark.parametrize("network", NETWORKS)
async def test_all_forms_of_a_version_name_the_same_files_and_say_the_same(load, version_of, version_outside, network):
    """Tables outside change no score of any form; each table is written once, whichever graphs gather from it."""
    version = version_outside(network)
    manifest = version.manifest
    named = {
        file.name: {
            entry.value
            for tensor in onnx.load(version.directory / file.name, load_external_data=False).graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
        for file in manifest.files
        if file.name.endswith(".onnx")
    }
    assert set().union(*named.values()) == set(manifest.shared_weights.values())
    contents = [(version.directory / name).read_bytes() for name in manifest.shared_weights.values()]
    assert len(set(contents)) == len(contents)
    if manifest.collapsed is not None:
        assert named["model.onnx"] & named["item.onnx"]
    inside, outside, golden = load(version_of(network)), load(version), golden_of(version)
    request, _ = request_of(version, golden, 0)
    deadline = time.monotonic() + 30
    answers = [await model.score(request, deadline) for model in (inside, outside)]
    for name, values in answers[0].scores.values.items():
        np.testing.assert_array_equal(values, answers[1].scores.values[name])
    assert await outside.check_golden(deadline) <= 1e-5
