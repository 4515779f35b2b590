"""Tables in files of their own: mapped once for all sessions of a version, checked like every other file."""

import io
from pathlib import Path

import numpy as np
import pytest

from service.scoring.errors import ModelRefusedError
from service.scoring.onnx_session import SessionSettings
from service.scoring.version_graphs import VersionGraphs
from service.scoring.version_loading import LoadRule, open_version
from tests.service.scoring.graphs import (
    ITEM_IDS,
    ITEM_WEIGHTS,
    GraphSpec,
    TensorProto,
    expected_ctr,
    graph_bytes,
    publish,
    request_of,
    rewrite_manifest,
)

CPU = SessionSettings("cpu", 1)
FILE = "weight.item_weights.npy"
HEADER = 128


def table_of(rows):
    return np.concatenate([ITEM_WEIGHTS, np.ones(rows - ITEM_IDS, np.float32)])


def with_table(repository, rows=ITEM_IDS, name="tiny", content=None):
    """The tiny model with its table outside, and longer than it needs to be."""
    weights = TensorProto(name="item_weights", data_type=TensorProto.FLOAT, dims=[rows], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", FILE), ("offset", str(HEADER)), ("length", str(4 * rows))):
        weights.external_data.add(key=key, value=value)
    if content is None:
        file = io.BytesIO()
        np.save(file, table_of(rows))
        content = file.getvalue()
        assert len(content) == HEADER + 4 * rows
    return publish(
        repository,
        name,
        onnx_bytes=graph_bytes(GraphSpec(weights=weights)),
        extra_files={FILE: content, "views.yaml": b"is no external data"},
    )


def own_memory():
    """Bytes of this process that no other can share."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def test_a_version_with_its_table_outside_scores_as_ever(repository):
    version = open_version(with_table(repository), LoadRule(CPU))
    request = request_of(3, range(ITEM_IDS), candidate=0.25)
    (scores,) = version.scorer([request])
    assert scores.values["ctr"].tolist() == expected_ctr(request).tolist()


def test_four_sessions_over_a_large_table_own_next_to_nothing(repository):
    rows = 16 << 20
    published = with_table(repository, rows)
    open_version(with_table(repository, name="small"), LoadRule(CPU))  # what the first session of all takes
    before = own_memory()
    graphs = VersionGraphs(published, CPU)
    sessions = [graphs.open("model.onnx") for _ in range(4)]
    request = request_of(3, range(ITEM_IDS))
    feeds = {**request.inputs, "row_user": np.zeros(request.rows, np.int32)}
    for session in sessions:
        assert session.run(("ctr",), feeds)["ctr"].tolist() == expected_ctr(request).tolist()
    assert own_memory() - before < 4 * rows / 4


@pytest.mark.parametrize("place", [0, HEADER - 1, HEADER, -1])
def test_an_altered_table_is_refused(repository, place):
    published = with_table(repository)
    path = published.directory / FILE
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelRefusedError, match=r"tiny@1 refused: .*weight\.item_weights\.npy: SHA-256 differs"):
        open_version(published, LoadRule(CPU))


def test_true_hashes_over_a_wrong_table_do_not_help(repository):
    published = with_table(repository)
    path = published.directory / FILE
    np.save(path, table_of(ITEM_IDS) + np.float32(0.5))
    with pytest.raises(ModelRefusedError, match="golden rows deviate"):
        open_version(rewrite_manifest(published), LoadRule(CPU))
    for content in (b"", b"no npy file", path.read_bytes()[:-4]):
        path.write_bytes(content)
        with pytest.raises(ModelRefusedError, match="not an npy file of a plain array"):
            open_version(rewrite_manifest(published), LoadRule(CPU))
    np.save(path, np.ones(7, np.float32))
    with pytest.raises(ModelRefusedError, match="golden rows cannot be scored"):
        open_version(rewrite_manifest(published), LoadRule(CPU))


def test_a_table_that_is_a_link_or_missing_is_refused(repository):
    published = with_table(repository)
    path = published.directory / FILE
    path.rename(path.with_suffix(".away"))
    with pytest.raises(ModelRefusedError, match="No such file"):
        open_version(published, LoadRule(CPU))
    path.symlink_to(path.with_suffix(".away"))
    with pytest.raises(ModelRefusedError, match="links are not followed"):
        open_version(published, LoadRule(CPU))
