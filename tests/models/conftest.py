"""Fixtures that cost seconds, made once a session: tiny tables, a trained run of each network, a published version of it."""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache

import pytest
import torch

from models.__main__ import main
from models.repository import ModelReference, ModelRepository, PublishedVersion
from models.training.run import finish_run, start_run
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
    return cache(lambda network: finish_run(start_run(tiny_shop, tiny_recipe(network), runs)))


@dataclass(frozen=True)
class Export:
    """What ``python -m models export`` did: its exit code, what it printed and logged, the version it published."""

    code: int
    printed: str
    logged: list[logging.LogRecord]
    version: PublishedVersion


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """network -> its export by the command; each costs seconds."""
    root = tmp_path_factory.mktemp("repository")

    @cache
    def export(network):
        run, printed, logged = trained(network).directory.root, io.StringIO(), _Records()
        logging.getLogger("torch.onnx").addHandler(logged)
        with redirect_stdout(printed), redirect_stderr(printed):
            code = main(["export", str(run), "--repository", str(root)])
        logging.getLogger("torch.onnx").removeHandler(logged)
        version = ModelRepository(root).open(ModelReference(network, None))
        return Export(code, printed.getvalue(), logged.records, version)

    return export


class _Records(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)
