"""Versions appear whole or not at all, and are what their manifest says or are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.repository import (
    ModelNotFoundError,
    ModelReference,
    ModelRepository,
    ReferenceInvalidError,
    StagedRefusedError,
    VersionRefusedError,
)
from tests.models.manifests import manifest_of

FILES = {"model.onnx": b"graph", "encoder.json": b"{}", "golden.npz": b"golden"}


@pytest.fixture
def repository(tmp_path):
    return ModelRepository(tmp_path / "repository")


def publish(repository, name="din", files=FILES):
    with repository.stage(name) as staged:
        for file, content in files.items():
            (staged / file).write_bytes(content)
        return repository.publish(staged, manifest_of(name))


def opened(repository, reference="din@latest"):
    return repository.open(ModelReference.parse(reference))


def test_a_published_version_is_found_and_its_files_are_read(repository):
    manifest = publish(repository)
    version = opened(repository)
    assert (manifest.name, manifest.version) == ("din", 1)
    assert version.manifest == manifest
    assert {file.name: version.file_bytes(file.name) for file in manifest.files} == FILES
    assert {file.name: file.size_bytes for file in manifest.files} == {name: len(content) for name, content in FILES.items()}
    version.check_files()


def test_versions_count_up_and_latest_is_the_highest(repository):
    for expected in range(1, 12):
        assert publish(repository).version == expected
    assert repository.versions("din") == list(range(1, 12))
    assert repository.resolve(ModelReference.parse("din@latest")) == ModelReference("din", 11)
    assert opened(repository, "din@2").manifest.version == 2


def test_names_are_those_with_a_published_version(repository):
    assert repository.names() == []
    publish(repository, "din")
    publish(repository, "deepfm")
    with repository.stage("other"):
        assert repository.names() == ["deepfm", "din"]


@pytest.mark.parametrize("reference", ["din@3", "other@latest", "other@1"])
def test_what_is_not_published_is_not_found_and_the_message_says_what_is(repository, reference):
    publish(repository)
    with pytest.raises(ModelNotFoundError, match=r"published.*(1|din)"):
        opened(repository, reference)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "din",
        "din@",
        "@1",
        "din@0",
        "din@01",
        "din@-1",
        "din@1.0",
        "din@Latest",
        "din@1\n",
        "../x@1",
        "Din@1",
        "a@b@1",
        "din@٣",
        "din@9999999999",
    ],
)
def test_other_texts_are_no_references(text):
    with pytest.raises(ReferenceInvalidError, match="name@version"):
        ModelReference.parse(text)


@pytest.mark.parametrize("text", ["din@3", "deep-fm_2@latest", "0@999999999"])
def test_a_reference_is_printed_as_it_is_read(text):
    assert str(ModelReference.parse(text)) == text


@pytest.mark.parametrize("name", ["../din", "", "Din", "a/b", ".din", "din@1"])
def test_nothing_is_staged_under_a_bad_name(repository, name):
    with pytest.raises(ReferenceInvalidError), repository.stage(name):
        pass
    assert not repository.root.exists()


def test_a_staged_directory_is_invisible_and_goes_away_when_it_is_not_published(repository):
    with repository.stage("din") as staged:
        (staged / "model.onnx").write_bytes(b"half")
        (staged / "manifest.json").write_text("{}")
        assert repository.names() == []
        assert repository.versions("din") == []
    assert list((repository.root / "din").iterdir()) == []


def test_an_error_while_staging_removes_the_directory(repository):
    def fail():
        with repository.stage("din") as staged:
            (staged / "model.onnx").write_bytes(b"half")
            raise KeyError("training broke")

    with pytest.raises(KeyError):
        fail()
    assert list((repository.root / "din").iterdir()) == []


def test_folders_that_are_no_versions_are_passed_over(repository):
    publish(repository)
    for name in ("2", "03", "x", "0", "4.tmp"):
        (repository.root / "din" / name).mkdir()
        (repository.root / "din" / name / "notes.txt").write_text("")
    assert repository.versions("din") == [1]
    assert publish(repository).version == 3  # 2 is taken, though by nothing published


def break_file(path, how):
    content = path.read_bytes()
    path.unlink()
    if how == "altered":
        path.write_bytes(content[:-1] + b"!")
    elif how == "cut":
        path.write_bytes(content[:-1])
    elif how == "link":
        other = path.with_suffix(".elsewhere")
        other.write_bytes(content)
        path.symlink_to(other)
    elif how == "folder":
        path.mkdir()


@pytest.mark.parametrize("how", ["altered", "cut", "link", "folder", "missing"])
def test_a_file_that_is_not_the_manifests_is_refused(repository, how):
    publish(repository)
    version = opened(repository)
    break_file(version.directory / "model.onnx", how)
    with pytest.raises(VersionRefusedError, match=r"model\.onnx"):
        version.file_bytes("model.onnx")
    with pytest.raises(VersionRefusedError, match=r"model\.onnx"):
        version.check_files()
    assert version.file_bytes("golden.npz") == b"golden"


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json", "../1/model.onnx", "/etc/passwd", ""])
def test_only_listed_files_are_read(repository, name):
    publish(repository)
    with pytest.raises(VersionRefusedError, match="not listed"):
        opened(repository).file_bytes(name)


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 9}', "[]"])
def test_a_broken_manifest_is_refused_with_its_path(repository, text):
    publish(repository)
    (repository.root / "din" / "1" / "manifest.json").write_text(text)
    with pytest.raises(VersionRefusedError, match=r"din/1/manifest\.json"):
        opened(repository)


def test_a_manifest_of_another_version_is_refused(repository):
    publish(repository)
    (repository.root / "din" / "1").rename(repository.root / "din" / "2")
    with pytest.raises(VersionRefusedError, match="the manifest is of din@1"):
        opened(repository)


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_links_and_folders_are_not_published(repository, kind):
    with repository.stage("din") as staged:
        if kind == "link":
            (staged / "model.onnx").symlink_to("/etc/passwd")
        else:
            (staged / "model.onnx").mkdir()
        with pytest.raises(StagedRefusedError, match="only plain files"):
            repository.publish(staged, manifest_of("din"))
    assert repository.versions("din") == []


def test_publishers_at_once_get_different_versions_and_none_is_lost(repository):
    with ThreadPoolExecutor(8) as pool:
        contents = [{**FILES, "model.onnx": b"graph %d" % number} for number in range(24)]
        versions = list(pool.map(lambda files: publish(repository, files=files).version, contents))
    assert sorted(versions) == list(range(1, 25))
    for version, files in zip(versions, contents, strict=True):
        assert opened(repository, f"din@{version}").file_bytes("model.onnx") == files["model.onnx"]
    assert sorted(path.name for path in (repository.root / "din").iterdir()) == sorted(map(str, versions))


KILLED = """
import os, sys
from pathlib import Path
from models.repository import ModelRepository
from tests.models.manifests import manifest_of

root, left = Path(sys.argv[1]), int(sys.argv[2])
real = os.fsync

def fsync(descriptor):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    real(descriptor)

os.fsync = fsync
repository = ModelRepository(root)
with repository.stage("din") as staged:
    for name in ("model.onnx", "encoder.json", "golden.npz"):
        (staged / name).write_bytes(name.encode())
    repository.publish(staged, manifest_of("din"))
"""


def test_a_kill_at_any_moment_leaves_nothing_published_or_a_whole_version(tmp_path):
    outcomes = []
    for syncs in range(8):
        root = tmp_path / str(syncs)
        command = [sys.executable, "-c", KILLED, root, str(syncs)]
        code = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(Path.cwd())}).returncode
        repository = ModelRepository(root)
        versions = repository.versions("din")
        if versions:
            opened(repository).check_files()
        outcomes.append((code, versions))
        assert publish(repository).version == len(versions) + 1
    assert outcomes[:5] == [(9, [])] * 5
    assert outcomes[-1] == (0, [1])
