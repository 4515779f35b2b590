"""What the tests of scoring share: a batcher under control, an executor, a repository, the tiny model loaded."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest

from models.repository import ModelRepository
from service.scoring import deadline_alarm, model_queue, submission
from service.scoring.loaded_model import LoadSettings, load_model
from service.scoring.onnx_session import SessionSettings
from service.scoring.policies import BatchLimits, Policy
from service.scoring.scheduler import Scheduler
from service.scoring.version_loading import LoadRule
from tests.service.scoring.batcher_house import Clock, House, turns
from tests.service.scoring.stand_ins import RecordingObserver


@pytest.fixture
def executor():
    with ThreadPoolExecutor(max_workers=1) as executor:
        yield executor


@pytest.fixture
def scheduler(executor):
    return Scheduler(executor)


@pytest.fixture
def observer():
    return RecordingObserver()


@pytest.fixture
def repository(tmp_path):
    return ModelRepository(tmp_path / "models")


@pytest.fixture
def load(scheduler, observer):
    """``load_model`` with everything but the version given."""
    settings = LoadSettings(LoadRule(SessionSettings("cpu", 1)), BatchLimits(256, 100_000), Policy("thread", 256, 256))
    return partial(load_model, settings=settings, scheduler=scheduler, observer=observer)


@pytest.fixture
def model(load, repository):
    """The tiny model; its graph is built with onnx, which a serving environment does not have."""
    from tests.service.scoring.graphs import publish

    return load(publish(repository))


@pytest.fixture
async def clock(monkeypatch):
    """Time under control; afterwards, no task is left and no error went unheard."""
    clock = Clock()
    for module in (deadline_alarm, model_queue, submission):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
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
