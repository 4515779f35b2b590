"""What the tests of scoring share: a batcher under control, an executor, a repository, the tiny model loaded."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest

from models.repository import ModelRepository
from service.scoring import batcher as batcher_module
from service.scoring.batcher import BatchLimits
from service.scoring.loaded_model import LoadSettings, load_model
from service.scoring.onnx_session import SessionSettings
from tests.service.scoring.batcher_house import Clock, House, turns
from tests.service.scoring.stand_ins import RecordingObserver


@pytest.fixture
def executor():
    with ThreadPoolExecutor(max_workers=1) as executor:
        yield executor


@pytest.fixture
def observer():
    return RecordingObserver()


@pytest.fixture
def repository(tmp_path):
    return ModelRepository(tmp_path / "models")


@pytest.fixture
def load(executor, observer):
    """``load_model`` with everything but the version given."""
    settings = LoadSettings(SessionSettings("cpu", 1), BatchLimits(max_batch_rows=256, max_queue_rows=100_000))
    return partial(load_model, settings=settings, executor=executor, observer=observer)


@pytest.fixture
def model(load, repository):
    """The tiny model; its graph is built with onnx, which a serving environment does not have."""
    from tests.service.scoring.graphs import publish

    return load(publish(repository))


@pytest.fixture
async def clock(monkeypatch):
    """Time under control; afterwards, no task is left and no error went unheard."""
    clock = Clock()
    monkeypatch.setattr(batcher_module, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    complaints = []
    gc.freeze()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    yield clock
    gc.collect()
    gc.unfreeze()
    await turns()
    assert complaints == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
def house(clock):
    return House(clock)
