"""The published vectors: Python agrees, Node agrees, and the check of either can fail."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from service.experiments.bucketing import bucket_of
from service.experiments.errors import UnitIdInvalidError

GOLDEN = Path(__file__).parents[2] / "golden" / "bucketing"
VECTORS = json.loads((GOLDEN / "vectors.json").read_text(encoding="ascii"))


def _unit(item, key):
    return int(item[key]) if item["type"] == "integer" else item[key]


def _node(*arguments):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the second implementation of the bucketing was not run")
    command = [node, str(GOLDEN / "bucketing.mjs"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def test_python_reproduces_every_vector():
    wrong = [
        item
        for item in VECTORS["cases"]
        if bucket_of(_unit(item, "unit_id"), item["salt"], item["num_buckets"]) != item["bucket"]
    ]
    assert wrong == []


def test_python_reproduces_the_plain_split():
    for item in VECTORS["plain"]:
        bucket = bucket_of(_unit(item, "user_id"), "", 100)
        assert (bucket, bucket < 10) == (item["bucket"], item["treatment"]), item


def test_python_refuses_what_the_vectors_refuse():
    for item in VECTORS["refused"]:
        with pytest.raises(UnitIdInvalidError):
            bucket_of(_unit(item, "unit_id"), item["salt"], item["num_buckets"])


def test_the_vectors_cover_what_implementations_get_wrong():
    cases = VECTORS["cases"]
    ids = {item["unit_id"] for item in cases}
    integers = {int(item["unit_id"]) for item in cases if item["type"] == "integer"}
    assert len(cases) >= 1_000
    assert {0, -1, 2**53 + 1, 2**63 - 1, -(2**63)} <= integers
    assert {"\u00e9t\u00e9", "e\u0301te\u0301"} <= ids
    assert any(len(text.encode()) >= 10_000 for text in ids)
    assert any(ord(char) > 0xFFFF for text in ids for char in text)
    assert {2, 100, 1_000, 10_000, 1_000_003} == {item["num_buckets"] for item in cases}
    assert {"", ":"} <= {item["salt"] for item in cases}


def test_the_script_still_writes_the_published_file():
    rendered = runpy.run_path(str(GOLDEN / "make_vectors.py"))["rendered"]
    assert rendered() == (GOLDEN / "vectors.json").read_text(encoding="ascii")


def test_node_reproduces_every_vector():
    done = _node()
    counts = ", ".join(f"{len(VECTORS[key])} {key}" for key in ("cases", "plain", "refused"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{counts}: 0 mismatches\n"


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("cases", {"bucket": -1}),
        ("cases", {"md5": "0" * 32}),
        ("plain", {"treatment": None}),
        ("refused", {"unit_id": "not empty"}),
    ],
)
def test_the_node_check_fails_on_an_altered_vector(tmp_path, section, change):
    altered = json.loads(json.dumps(VECTORS))
    altered[section][-1].update(change)
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(altered), encoding="ascii")
    done = _node(path)
    assert done.returncode == 1
    assert f"{section}[{len(altered[section]) - 1}]" in done.stderr
    assert done.stdout.endswith(": 1 mismatches\n")
