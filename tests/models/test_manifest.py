"""The contract between who exports and who serves: what it holds comes back, what contradicts itself is refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from models.manifest import Manifest
from tests.models.manifests import SHA, manifest_data


def loaded(**changes):
    return Manifest.loads(json.dumps(manifest_data(**changes)))


def test_a_manifest_written_and_read_is_the_same():
    manifest = loaded()
    assert Manifest.loads(manifest.dumps()) == manifest
    assert json.loads(manifest.dumps()) == {**manifest_data(), "collapsed": None}


def test_the_digest_is_the_graphs_and_attention_is_no_score():
    files = [{"name": "model.onnx", "sha256": "a" * 64, "size_bytes": 1}, *manifest_data()["files"][1:]]
    manifest = loaded(files=files)
    assert manifest.digest == "a" * 64
    assert manifest.score_names == ("click",)


def file_named(name):
    return [*manifest_data()["files"], {"name": name, "sha256": SHA, "size_bytes": 1}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"surprise": 1}, "surprise"),
        ({"name": "../din"}, "name"),
        ({"name": "Din"}, "name"),
        ({"name": "din\n"}, "name"),
        ({"version": 0}, "version"),
        ({"version": "1"}, "version"),
        ({"uses_history": "yes"}, "uses_history"),
        ({"onnx": "other.onnx"}, "not listed under files: other.onnx"),
        ({"golden": "a/b.npz"}, "golden"),
        ({"files": file_named("manifest.json")}, "cannot list itself"),
        ({"files": file_named("../etc")}, "files"),
        ({"files": file_named(".hidden")}, "files"),
        ({"files": file_named("model.onnx")}, "model.onnx stands twice"),
        ({"inputs": manifest_data()["inputs"] * 2}, "row_user stands twice"),
        ({"inputs": [{"name": "x", "dtype": "int64", "axis": "rows", "width": 1}]}, "dtype"),
        ({"inputs": [{"name": "x", "dtype": "int32", "axis": "items", "width": 1}]}, "axis"),
        ({"outputs": []}, "at least one score"),
        ({"outputs": [{"name": "attention", "meaning": "attention"}]}, "at least one score"),
        ({"outputs": [{"name": "click", "meaning": "score"}]}, "meaning"),
        ({"encoder_fingerprint": "abc"}, "encoder_fingerprint"),
        ({"parity": {"tolerance": 1e-5, "largest": 2e-5, "cases": {"one_row": 2e-5}}}, "above the tolerance"),
        ({"parity": {"tolerance": 1e-5, "largest": 0.0, "cases": {"one_row": 9e-6}}}, "not the largest"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        loaded(**changes)


@pytest.mark.parametrize("key", sorted(set(manifest_data()) - {"schema_version"}))
def test_no_key_may_be_left_out(key):
    data = manifest_data()
    del data[key]
    with pytest.raises(ValidationError, match=key):
        Manifest.loads(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", '{"version": NaN}', b"\xff"])
def test_other_bytes_are_refused(text):
    with pytest.raises(ValidationError):
        Manifest.loads(text)


def test_a_metric_that_is_not_a_number_is_refused():
    text = json.dumps(manifest_data()).replace("0.7", "NaN")
    with pytest.raises(ValidationError, match="test_auc"):
        Manifest.loads(text)
