"""A real scorer process with the tiny model, and connections to it."""

import gc
import time
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.repository import ModelRepository
from service.scoring.process.connection import ConnectionRule, ScorerConnection
from service.scoring.process.region import RegionShape
from service.scoring.process.settings import HealingRule, ScorerSettings
from service.scoring.process.supervisor import ScorerSupervisor
from tests.service.scoring.stand_ins import RecordingObserver

PATIENCE_S = 30.0
SHAPE = RegionShape(slots=8, slot_bytes=8_192)
HEALING = HealingRule(ping_s=0.05, hang_s=1.0, backoff_s=0.02, longest_backoff_s=0.05)


def open_descriptors(process="self"):
    gc.collect()  # what earlier tests left behind is not to be closed between two counts
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A scorer that lives as long as the file's tests, whatever they do to it."""
    from tests.service.scoring.graphs import publish

    root = tmp_path_factory.mktemp("models")
    repository = ModelRepository(root)
    published = publish(repository)
    with ScorerSupervisor(ScorerSettings(str(root), "cpu", 1, batch_rows=512, log_level="error"), HEALING) as supervisor:
        yield SimpleNamespace(repository=repository, published=published, supervisor=supervisor)


@asynccontextmanager
async def front_end(address, shape=SHAPE):
    rule = ConnectionRule(shape, retry_s=0.01, longest_retry_s=0.05, reload_s=0.02, longest_reload_s=0.05)
    connection = ScorerConnection(address, rule)
    await connection.start()
    try:
        yield connection
    finally:
        await connection.close()


async def load(connection, published, max_queue_rows=1_000_000, observer=None):
    remote, _ = await connection.load(
        published.manifest, max_queue_rows=max_queue_rows, observer=observer or RecordingObserver(), timeout_s=PATIENCE_S
    )
    return remote


def soon():
    """A deadline that only a hang can miss."""
    return time.monotonic() + PATIENCE_S
