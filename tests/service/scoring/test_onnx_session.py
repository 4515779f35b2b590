"""The graph from bytes: thread counts, providers, and external data only from bytes that were handed over."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from service.scoring import onnx_session
from service.scoring.errors import ModelRefusedError, ProviderUnavailableError
from service.scoring.onnx_session import OnnxSession, SessionSettings, choose_providers
from service.scoring.row_buckets import BoundSettings, RowBuckets, fill
from service.scoring.shared_weights import SharedWeights
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


def test_the_run_below_the_librarys_own_is_still_there_and_does_the_same():
    session = onnxruntime.InferenceSession(graph_bytes(), providers=[CPU_PROVIDER])
    run = onnx_session.direct_run(session)
    assert run != session.run, "the library has moved what it runs: scores are right, but slower"
    options = onnxruntime.RunOptions()
    expected = session.run(["ctr", "cvr"], feeds(), options)
    for found, wanted in zip(run(["ctr", "cvr"], feeds(), options), expected, strict=True):
        assert found.tolist() == wanted.tolist()
    for broken in ({}, {**feeds(), "unknown": feeds()["history"]}, {**feeds(), "history": np.zeros((1, 4), np.int32)}):
        with pytest.raises(Exception, match=r"nput|dimension"):
            run(["ctr"], broken, options)


def test_without_it_the_public_one_runs():
    class Public:
        def run(self, names, feeds, options):
            return [names, feeds, options]

    assert onnx_session.direct_run(Public())(["a"], {}, None) == [["a"], {}, None]


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
    monkeypatch.setattr(onnx_session, "choose_providers", lambda *_: [(CPU_PROVIDER, {})])
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


TABLE = np.arange(52 * 8, dtype=np.float32).reshape(52, 8)


def table_graph(location, offset, name="table"):
    """y = x + table[ids]; one large initializer outside, as a version with shared weights has it."""
    table = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=TABLE.shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(TABLE.nbytes))):
        table.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Gather", [name, "ids"], ["rows"], axis=0), helper.make_node("Add", ["x", "rows"], ["y"])]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 8])]
    values.append(helper.make_tensor_value_info("ids", TensorProto.INT32, ["rows"]))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 8])
    graph = helper.make_graph(nodes, "shared", values, [out], initializer=[table])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


@pytest.fixture
def table_file(tmp_path):
    path = tmp_path / "weight.table.npy"
    np.save(path, TABLE)
    return path


TABLE_OFFSET = 128
TABLE_FEEDS = {"x": np.ones((3, 8), np.float32), "ids": np.array([51, 0, 7], np.int32)}


def test_sessions_read_shared_weights_from_the_one_mapped_file(table_file):
    """Shown by changing the file under them, which nobody may do: it is no copy."""
    assert table_file.stat().st_size == TABLE_OFFSET + TABLE.nbytes
    shared = SharedWeights({"table": table_file})
    sessions = [OnnxSession(table_graph(table_file.name, TABLE_OFFSET), {}, CPU, shared=shared) for _ in range(2)]
    for session in sessions:
        np.testing.assert_array_equal(session.run(("y",), TABLE_FEEDS)["y"], TABLE[TABLE_FEEDS["ids"]] + 1)
    np.lib.format.open_memmap(table_file, mode="r+")[7] = -1.0
    for session in sessions:
        assert session.run(("y",), TABLE_FEEDS)["y"][2].tolist() == [0.0] * 8


def test_a_graph_with_shared_weights_is_plain_onnx_for_others(table_file):
    model = table_graph(table_file.name, TABLE_OFFSET)
    session = OnnxSession(model, {table_file.name: table_file.read_bytes()}, CPU)
    np.testing.assert_array_equal(session.run(("y",), TABLE_FEEDS)["y"], TABLE[TABLE_FEEDS["ids"]] + 1)


def test_shared_weights_reach_no_other_file(table_file, bait):
    shared = SharedWeights({"table": table_file})
    for location in (*TRICKS, str(bait / "weights.bin")):
        if location != "*/_ORT_MEM_ADDR_/*":
            with pytest.raises(ModelRefusedError):
                OnnxSession(table_graph(location, 0, "other"), {}, CPU, shared=shared)


def test_what_is_not_an_npy_file_is_refused(tmp_path):
    path = tmp_path / "weight.table.npy"
    for content in (b"", b"\x93NUMPY", b"garbage" * 99):
        path.write_bytes(content)
        with pytest.raises(ModelRefusedError, match=r"weight.table.npy: not "):
            SharedWeights({"table": path})
    np.save(path, np.asfortranarray(TABLE))
    with pytest.raises(ModelRefusedError, match="not one array in C order"):
        SharedWeights({"table": path})


def test_files_in_memory_and_shared_weights_together_are_refused(table_file):
    with pytest.raises(ValueError, match="not from both"):
        OnnxSession(table_graph(table_file.name, 128), {"a": b"b"}, CPU, shared=SharedWeights({"table": table_file}))


BOUND = SessionSettings("cpu", 1, BoundSettings(RowBuckets(4, 16), RowBuckets(1, 4), on_cpu=True))


def some_feeds(rows, users, seed):
    choice = np.random.default_rng(seed)
    return {
        "user_numbers": choice.integers(0, 9, (users, 1)).astype(np.float32),
        "history": choice.integers(0, 9, (users, 3)).astype(np.int32),
        "item_categories": choice.integers(0, 52, (rows, 1)).astype(np.int32),
        "candidate_numbers": choice.random((rows, 1)).astype(np.float32),
        "row_user": np.sort(choice.integers(0, users, rows)).astype(np.int32),
    }


def test_runs_from_bound_buffers_give_the_same_scores_at_every_size():
    """Large and small batches by turns, past the largest size too: nothing of an earlier batch shows."""
    bound, plain = OnnxSession(graph_bytes(), {}, BOUND), OnnxSession(graph_bytes(), {}, CPU)
    for seed, rows in enumerate([1, 16, 3, 15, 4, 5, 17, 40, 1, 16]):
        for users in (1, 4, 2, 5):
            for outputs in (("ctr", "cvr"), ("ctr", "cvr", "attention")):
                given = some_feeds(rows, users, seed)
                found, expected = bound.run(outputs, given), plain.run(outputs, given)
                assert found.keys() == expected.keys()
                for name, array in expected.items():
                    np.testing.assert_array_equal(found[name], array)


def test_bound_outputs_are_not_overwritten_by_the_next_run():
    session = OnnxSession(graph_bytes(), {}, BOUND)
    first, second = some_feeds(5, 2, 1), some_feeds(5, 2, 2)
    kept = session.run(("ctr",), first)["ctr"]
    before = kept.tolist()
    assert session.run(("ctr",), second)["ctr"].tolist() != before
    assert kept.tolist() == before


def test_bound_runs_from_several_threads_keep_their_rows():
    session, plain = OnnxSession(graph_bytes(), {}, BOUND), OnnxSession(graph_bytes(), {}, CPU)

    def run(seed):
        given = some_feeds(1 + seed % 16, 2, seed)
        expected = plain.run(("ctr",), given)["ctr"].tolist()
        return all(session.run(("ctr",), given)["ctr"].tolist() == expected for _ in range(50))

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(run, range(8)))


def test_on_a_cpu_batches_are_not_padded_unless_a_test_wants_it(monkeypatch):
    lengths = []
    session = OnnxSession(graph_bytes(), {}, SessionSettings("cpu", 1, BoundSettings()))
    monkeypatch.setattr(onnx_session, "fill", lambda *_: lengths.append(1))
    session.run(("ctr",), feeds())
    assert lengths == []


@pytest.mark.parametrize("graphs", [True, False])
def test_cuda_graphs_can_be_switched_off(graphs):
    (_, options), _ = choose_providers("cuda", [CUDA_PROVIDER, CPU_PROVIDER], BoundSettings(cuda_graphs=graphs))
    assert options.get("enable_cuda_graph") == ("1" if graphs else None)


@pytest.mark.parametrize(
    ("count", "size"), [(0, 256), (1, 256), (256, 256), (257, 512), (513, 1_024), (32_768, 32_768), (32_769, None)]
)
def test_the_smallest_size_that_holds_a_batch_is_taken(count, size):
    assert RowBuckets().size(count) == size


@pytest.mark.parametrize(("smallest", "largest"), [(0, 4), (8, 4), (-1, 1)])
def test_sizes_that_make_no_sense_are_refused(smallest, largest):
    with pytest.raises(ValueError, match="buckets must begin"):
        RowBuckets(smallest, largest)


def test_what_is_left_of_an_earlier_batch_in_a_buffer_becomes_padding():
    buffer = np.zeros((4, 2), np.int32)
    filled = fill(buffer, np.full((3, 2), 7), 0)
    filled = fill(buffer, np.full((1, 2), 5), filled)
    assert filled == 1
    assert buffer.tolist() == [[5, 5], [0, 0], [0, 0], [0, 0]]
