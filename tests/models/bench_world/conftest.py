"""One small world, made by the command: two exports of full-sized networks, some seconds."""

from __future__ import annotations

import pytest
import torch

from feature_store.tables import read_tables
from feature_store.views import load_views
from models.__main__ import main
from models.bench_world.tables import BenchWorldConfig
from models.training.rows import build_training_data

CONFIG = BenchWorldConfig(users=12, items=300, seed=5)


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    """Tests run beside each other, and small tensors gain nothing from a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Path of the world."""
    out = tmp_path_factory.mktemp("bench-world") / "world"
    sizes = ["--users", str(CONFIG.users), "--items", str(CONFIG.items), "--seed", str(CONFIG.seed)]
    assert main(["bench-world", "--out", str(out), *sizes]) == 0
    return out


@pytest.fixture(scope="session")
def data(world):
    """The world's training data."""
    views = load_views(world / "views.yaml")
    return build_training_data(views, read_tables(views, world))
