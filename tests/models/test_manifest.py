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


USER = {"name": "user_numbers", "dtype": "float32", "axis": "users", "width": 2}
ITEM = {"name": "item_numbers", "dtype": "float32", "axis": "rows", "width": 3}
CANDIDATE = {"name": "candidate_numbers", "dtype": "float32", "axis": "rows", "width": 1}
ROW_USER = {"name": "row_user", "dtype": "int32", "axis": "rows", "width": None}
PART = {"name": "item_part", "dtype": "float32", "axis": "rows", "width": 4}
COST = dict.fromkeys(("flops_per_row", "bytes_per_row", "flops_per_user", "bytes_per_user"), 1.0)


def collapsed_manifest(*, item=(ITEM,), one=(USER, PART, CANDIDATE), many=(USER, PART, CANDIDATE, ROW_USER), part=True):
    names = ("item.onnx", "one_user.onnx", "many_users.onnx")
    item_part = {"onnx": "item.onnx", "inputs": list(item), "width": 4, "table": None, "table_inputs": None}
    return loaded(
        files=[*manifest_data()["files"], *({"name": name, "sha256": SHA, "size_bytes": 1} for name in names)],
        inputs=[USER, ITEM, CANDIDATE, ROW_USER],
        collapsed={
            "one_user": {"onnx": "one_user.onnx", "inputs": list(one)},
            "many_users": {"onnx": "many_users.onnx", "inputs": list(many)},
            "item_part": item_part if part else None,
            "parity": manifest_data()["parity"],
            "plain_cost": COST,
            "collapsed_cost": COST,
        },
    )


def test_forms_read_the_versions_inputs_and_the_item_part():
    assert collapsed_manifest().collapsed.item_part.width == 4
    assert collapsed_manifest(part=False, one=(USER, ITEM), many=(USER, ITEM, ROW_USER)).collapsed.item_part is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"item": [CANDIDATE]}, "not of candidate_numbers"),
        ({"item": [ITEM, USER]}, "not of user_numbers"),
        ({"item": [ITEM, ROW_USER]}, "not of row_user"),
        ({"item": [{**ITEM, "axis": "users"}]}, "not of item_numbers"),
        ({"item": []}, "not of nothing"),
        ({"item": [{**ITEM, "width": 9}]}, "item_part reads item_numbers"),
        ({"one": [USER, PART, ROW_USER]}, "one_user reads row_user"),
        ({"one": [{**USER, "width": 9}, PART]}, "one_user reads user_numbers"),
        ({"one": [USER, {**PART, "width": 5}]}, "one_user reads item_part"),
        ({"many": [{**CANDIDATE, "name": "candidate_secret"}]}, "many_users reads candidate_secret"),
        ({"part": False}, "one_user reads item_part"),
    ],
)
def test_a_form_that_reads_something_else_is_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        collapsed_manifest(**changes)
