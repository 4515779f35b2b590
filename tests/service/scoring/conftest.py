"""What the tests of scoring share: an executor with one thread, a repository, the tiny model loaded."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from models.repository import ModelRepository
from service.scoring.batcher import BatchLimits
from service.scoring.loaded_model import LoadSettings, load_model
from service.scoring.onnx_session import SessionSettings
from tests.service.scoring.graphs import publish
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
    return load(publish(repository))
