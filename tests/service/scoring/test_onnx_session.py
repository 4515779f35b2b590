"""The graph from bytes: thread counts, providers, and external data only from bytes that were handed over."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from service.scoring import onnx_session
from service.scoring.errors import ModelRefusedError, ProviderUnavailableError
from service.scoring.onnx_session import OnnxSession, SessionSettings, choose_providers
from tests.service.scoring.graphs import (
    ITEM_WEIGHTS,
    GraphSpec,
    TensorProto,
    external_weights,
    golden_arrays,
    graph_bytes,
    helper,
)

CPU = SessionSettings("cpu", 1)
CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"


def feeds():
    return {name.removeprefix("input."): array for name, array in golden_arrays().items() if name.startswith("input.")}


def test_it_runs_only_the_outputs_that_are_asked_for():
    outputs = OnnxSession(graph_bytes(), {}, CPU).run(("ctr",), feeds())
    assert list(outputs) == ["ctr"]
    assert outputs["ctr"].tolist() == golden_arrays()["output.ctr"].tolist()


def test_it_tells_what_the_graph_takes_and_gives():
    session = OnnxSession(graph_bytes(), {}, CPU)
    assert session.provider == "cpu"
    assert [(each.name, each.dtype, each.shape) for each in session.inputs] == [
        ("user_numbers", "float32", (None, 1)),
        ("history", "int32", (None, 3)),
        ("item_categories", "int32", (None, 1)),
        ("candidate_numbers", "float32", (None, 1)),
        ("row_user", "int32", (None,)),
    ]
    assert [(each.name, each.shape) for each in session.outputs] == [
        ("ctr", (None,)),
        ("cvr", (None,)),
        ("attention", (None, 3)),
    ]


@pytest.mark.parametrize(("asked", "threads"), [(3, 3), (None, 7)])
def test_threads_follow_the_setting_or_the_usable_cpus_and_never_spin(monkeypatch, asked, threads):
    monkeypatch.setattr(onnx_session, "usable_cpus", lambda: 7)
    options = onnx_session._options(SessionSettings("cpu", asked), {})
    assert options.intra_op_num_threads == threads
    assert options.inter_op_num_threads == 1
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("threads", [0, -1])
def test_a_thread_count_below_one_is_refused(threads):
    with pytest.raises(ValueError, match="intra_op_threads must be at least 1"):
        SessionSettings("cpu", threads)


@pytest.mark.parametrize(
    ("wanted", "available", "chosen"),
    [
        ("auto", [CPU_PROVIDER], [CPU_PROVIDER]),
        ("cpu", [CUDA_PROVIDER, CPU_PROVIDER], [CPU_PROVIDER]),
        ("auto", [CUDA_PROVIDER, CPU_PROVIDER], [CUDA_PROVIDER, CPU_PROVIDER]),
        ("cuda", [CUDA_PROVIDER, CPU_PROVIDER], [CUDA_PROVIDER, CPU_PROVIDER]),
    ],
)
def test_the_provider_is_the_wanted_one_or_the_best_there_is(wanted, available, chosen):
    providers = choose_providers(wanted, available)
    assert [name for name, _ in providers] == chosen
    assert all(options == {"use_tf32": "0"} for name, options in providers if name == CUDA_PROVIDER)


def test_cuda_from_a_build_without_it_is_a_clear_error():
    with pytest.raises(ProviderUnavailableError, match="offers only CPUExecutionProvider: install onnxruntime-gpu"):
        choose_providers("cuda", [CPU_PROVIDER])


def test_cuda_that_does_not_start_is_a_clear_error(monkeypatch):
    """ONNX Runtime goes on without a provider that cannot start; only its own list of providers tells."""
    monkeypatch.setattr(onnx_session, "choose_providers", lambda wanted, available: [(CPU_PROVIDER, {})])
    with pytest.raises(ProviderUnavailableError, match="could not start it: check the NVIDIA driver"):
        OnnxSession(graph_bytes(), {}, SessionSettings("cuda", 1))


def test_external_data_comes_from_the_bytes_that_were_handed_over():
    model = graph_bytes(GraphSpec(weights=external_weights("weights.bin")))
    session = OnnxSession(model, {"weights.bin": ITEM_WEIGHTS.tobytes(), "unused.bin": b"x"}, CPU)
    assert session.run(("ctr",), feeds())["ctr"].tolist() == golden_arrays()["output.ctr"].tolist()


def test_a_node_may_hold_external_data_that_was_handed_over():
    session = OnnxSession(in_a_constant(external_weights("weights.bin")), {"weights.bin": ITEM_WEIGHTS.tobytes()}, CPU)
    assert session.run(("y",), {"x": np.zeros((1, 52), np.float32)})["y"].tolist() == [ITEM_WEIGHTS.tolist()]


@pytest.fixture
def bait(tmp_path, monkeypatch):
    """Valid weights on the disk at every place a trick could reach, with the bait's directory as the working one."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "weights.bin").write_bytes(ITEM_WEIGHTS.tobytes())
    (tmp_path / "inside" / "weights.bin").write_bytes(ITEM_WEIGHTS.tobytes())
    (tmp_path / "inside" / "symlink.bin").symlink_to(tmp_path / "weights.bin")
    (tmp_path / "inside" / "hardlink.bin").hardlink_to(tmp_path / "weights.bin")
    monkeypatch.chdir(tmp_path / "inside")
    return tmp_path


TRICKS = [
    "weights.bin",
    "./weights.bin",
    "../weights.bin",
    "inside/../weights.bin",
    "symlink.bin",
    "hardlink.bin",
    "/proc/self/cwd/weights.bin",
    "/dev/zero",
    "file:weights.bin",
    "*/_ORT_MEM_ADDR_/*",
    "",
]


def in_a_constant(tensor):
    """The tensor as the value of a node, which is read elsewhere than initializers are."""
    weights = helper.make_node("Constant", [], ["w"], value=tensor)
    add = helper.make_node("Add", ["x", "w"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 52]) for name in ("x", "y")]
    graph = helper.make_graph([weights, add], "constant", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


@pytest.mark.parametrize("offered", [{}, {"other.bin": b"\0" * 208}], ids=["nothing offered", "another file offered"])
@pytest.mark.parametrize("location", TRICKS)
def test_external_data_from_the_disk_is_refused(bait, location, offered):
    for model in (graph_bytes(GraphSpec(weights=external_weights(location))), in_a_constant(external_weights(location))):
        with pytest.raises(ModelRefusedError, match="ONNX Runtime does not accept the graph"):
            OnnxSession(model, offered, CPU)


def test_an_absolute_path_to_real_weights_is_refused(bait):
    with pytest.raises(ModelRefusedError):
        OnnxSession(graph_bytes(GraphSpec(weights=external_weights(str(bait / "weights.bin")))), {}, CPU)


@pytest.mark.parametrize(("offset", "length"), [(0, 1 << 62), (8, 208), (1 << 62, 208), (-8, 208), (0, -1), (0, 4)])
def test_external_data_outside_its_file_is_refused(offset, length):
    model = graph_bytes(GraphSpec(weights=external_weights("weights.bin", offset=offset, length=length)))
    with pytest.raises(ModelRefusedError):
        OnnxSession(model, {"weights.bin": ITEM_WEIGHTS.tobytes()}, CPU)


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"garbage" * 50, np.random.default_rng(1).bytes(500), graph_bytes()[:-20], graph_bytes()[:40]]
)
def test_what_is_no_graph_is_refused(content):
    with pytest.raises(ModelRefusedError):
        OnnxSession(content, {}, CPU)


def test_an_unknown_opset_is_refused():
    with pytest.raises(ModelRefusedError):
        OnnxSession(graph_bytes(GraphSpec(opset=9_999)), {}, CPU)


def test_several_threads_may_run_it_at_once():
    session = OnnxSession(graph_bytes(), {}, CPU)

    def run(user):
        own = {**feeds(), "user_numbers": np.array([[user], [user]], np.float32)}
        return [session.run(("ctr",), own)["ctr"][0] for _ in range(50)]

    with ThreadPoolExecutor(4) as executor:
        for user, scores in zip(range(4), executor.map(run, range(4)), strict=True):
            assert set(scores) == {1000 * user + 4.75}
