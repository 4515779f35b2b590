"""A build for CUDA on a machine whose device does not answer: auto means the CPU, for shared weights too."""

import numpy as np
import onnxruntime
import pytest

from service.scoring import onnx_session
from service.scoring.errors import ModelRefusedError
from service.scoring.onnx_session import OnnxSession, SessionSettings, cuda_is_usable
from service.scoring.shared_weights import SharedWeights
from service.scoring.version_graphs import VersionGraphs
from tests.service.scoring.graphs import expected_ctr, request_of
from tests.service.scoring.test_version_graphs import with_table

CUDA = "CUDAExecutionProvider"


@pytest.fixture
def dead_device(monkeypatch):
    """What onnxruntime-gpu says without a driver."""
    real = onnxruntime.OrtValue.ortvalue_from_numpy

    def on(array, device="cpu", number=0):
        if device == "cuda":
            raise RuntimeError("CUDA failure 35: driver version is insufficient")
        return real(array, device, number)

    monkeypatch.setattr(onnx_session.onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", staticmethod(on))
    cuda_is_usable.cache_clear()
    yield
    cuda_is_usable.cache_clear()


def test_auto_is_the_cpu_where_the_device_does_not_answer(dead_device, repository):
    assert not cuda_is_usable()
    session = VersionGraphs(with_table(repository), SessionSettings("auto", 1)).open("model.onnx")
    request = request_of(3, range(9))
    found = session.run(("ctr",), {**request.inputs, "row_user": np.zeros(9, np.int32)})
    assert (session.provider, found["ctr"].tolist()) == ("cpu", expected_ctr(request).tolist())


def test_cuda_that_was_demanded_is_refused_there(dead_device, repository):
    with pytest.raises(ModelRefusedError, match="driver version is insufficient"):
        VersionGraphs(with_table(repository), SessionSettings("cuda", 1)).open("model.onnx")


def test_tables_are_placed_on_a_device_once_for_all_sessions(repository):
    published = with_table(repository)
    placed = []
    shared = SharedWeights({"item_weights": published.directory / "weight.item_weights.npy"})
    for _ in range(4):
        shared.on("cuda", lambda table, device: placed.append((device, table.shape)))
    assert placed == [("cuda", (52,))]


def test_a_build_without_cuda_is_not_asked_for_a_device(monkeypatch):
    monkeypatch.setattr(onnx_session.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(OnnxSession, "__init__", None)
    cuda_is_usable.cache_clear()
    assert not cuda_is_usable()
    cuda_is_usable.cache_clear()
