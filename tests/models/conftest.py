"""Fixtures that cost seconds, made once a session: tiny tables, a trained run of each network, a published version of it."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from models.export import export_run
from models.repository import ModelReference, ModelRepository
from models.training.run import train_run
from tests.models.tiny_shop import tiny_recipe, write_tiny_shop


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    """Tests run beside each other, and tiny tensors gain nothing from a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_shop(tmp_path_factory):
    """Path of the tiny shop's views."""
    return write_tiny_shop(tmp_path_factory.mktemp("tiny-shop"))


@pytest.fixture(scope="session")
def trained(tiny_shop, tmp_path_factory):
    """network -> a finished run."""
    runs = tmp_path_factory.mktemp("runs")
    return cache(lambda network: train_run(tiny_shop, tiny_recipe(network), runs))


@pytest.fixture(scope="session")
def published(trained, tmp_path_factory):
    """network -> its opened version; exporting one costs seconds."""
    repository = ModelRepository(tmp_path_factory.mktemp("repository"))

    @cache
    def publish(network):
        manifest = export_run(trained(network).directory.root, repository)
        return repository.open(ModelReference(manifest.name, manifest.version))

    return publish
