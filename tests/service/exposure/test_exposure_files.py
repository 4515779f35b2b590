"""Files end by size and by age, get their last name when they are whole, and are synced as the rule says."""

import os
import re
import shutil

import pytest

from service.exposure.files import ExposureFiles
from tests.service.exposure.stand_ins import a_rule, lines_in

LINE = b"x" * 99 + b"\n"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def whole(directory):
    return sorted(path.name for path in directory.glob("*.jsonl"))


def still_open(directory):
    return sorted(path.name for path in directory.glob("*.jsonl.open"))


def test_the_name_tells_process_start_and_number(tmp_path):
    files = ExposureFiles(a_rule(tmp_path))
    files.append(LINE)
    (name,) = still_open(tmp_path)
    assert re.fullmatch(rf"exposures-\d{{8}}T\d{{6}}\.\d{{6}}Z-{os.getpid()}-000001\.jsonl\.open", name)
    files.finish()
    assert whole(tmp_path) == [name.removesuffix(".open")]
    assert not still_open(tmp_path)


def test_a_file_ends_before_it_would_be_too_long(tmp_path):
    files = ExposureFiles(a_rule(tmp_path, rotate_bytes=1_000))
    for _ in range(25):
        files.append(LINE)
    assert [(tmp_path / name).stat().st_size for name in whole(tmp_path)] == [1_000, 1_000]
    assert len(still_open(tmp_path)) == 1
    files.append(LINE * 30)  # longer than any file may be: one of its own
    files.finish()
    assert [(tmp_path / name).stat().st_size for name in whole(tmp_path)] == [1_000, 1_000, 500, 3_000]


def test_a_file_ends_when_it_is_old_though_nothing_comes(tmp_path, clock):
    files = ExposureFiles(a_rule(tmp_path, rotate_s=60), monotonic=clock)
    files.append(LINE)
    clock.now += 59
    files.look()
    assert still_open(tmp_path)
    clock.now += 1
    files.look()
    assert not still_open(tmp_path)
    assert lines_in(tmp_path) == [LINE]


def syncs_of(monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    return synced


def test_never_synced(tmp_path, clock, monkeypatch):
    synced, files = syncs_of(monkeypatch), ExposureFiles(a_rule(tmp_path, fsync="none"), monotonic=clock)
    files.append(LINE)
    clock.now += 100
    files.look()
    files.finish()
    assert not synced


def test_synced_with_its_name_when_it_ends(tmp_path, clock, monkeypatch):
    synced, files = syncs_of(monkeypatch), ExposureFiles(a_rule(tmp_path, fsync="rotation"), monotonic=clock)
    files.append(LINE)
    clock.now += 100
    files.look()
    assert not synced
    files.finish()
    assert len(synced) == 2  # the file, then the directory that has its new name


def test_synced_in_intervals_if_there_is_anything_new(tmp_path, clock, monkeypatch):
    rule = a_rule(tmp_path, fsync="interval", fsync_s=1.0)
    synced, files = syncs_of(monkeypatch), ExposureFiles(rule, monotonic=clock)
    files.append(LINE)
    clock.now += 0.5
    files.look()
    assert len(synced) == 0
    clock.now += 0.5
    files.look()
    assert len(synced) == 1
    clock.now += 5
    files.look()
    assert len(synced) == 1, "nothing new"
    files.append(LINE)
    files.look()
    assert len(synced) == 2


def test_after_a_failed_sync_a_new_file_begins(tmp_path, clock, monkeypatch):
    files = ExposureFiles(a_rule(tmp_path, fsync="interval"), monotonic=clock)
    files.append(LINE)
    clock.now += 2

    def refuse(_):
        raise OSError("input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="input/output"):
            files.look()
    files.append(LINE)
    assert len(still_open(tmp_path)) == 2
    files.finish()


@pytest.mark.parametrize("what", ["the file", "the directory"])
def test_what_somebody_deleted_is_made_anew(tmp_path, what):
    directory = tmp_path / "log"
    files = ExposureFiles(a_rule(directory))
    files.append(LINE)
    if what == "the directory":
        shutil.rmtree(directory)
    else:
        next(directory.iterdir()).unlink()
    files.append(LINE * 2)
    files.finish()
    assert lines_in(directory) == [LINE] * 2


def test_space_is_left_for_others(tmp_path):
    files = ExposureFiles(a_rule(tmp_path, keep_free_bytes=1 << 60))
    with pytest.raises(OSError, match="free"):
        files.append(LINE)
    files.finish()
    assert not list(tmp_path.iterdir())


def test_of_a_write_that_broke_off_whole_lines_stay(tmp_path, monkeypatch):
    files = ExposureFiles(a_rule(tmp_path))
    files.append(LINE)
    real, calls = os.write, []

    def short_then_full(descriptor, data):
        calls.append(len(data))
        if len(calls) == 1:
            return real(descriptor, data[:250])
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short_then_full)
        kept = files.append(LINE * 5)
    assert kept == 200
    assert lines_in(tmp_path) == [LINE] * 3
    assert not still_open(tmp_path)
    files.append(LINE)
    files.finish()
    assert lines_in(tmp_path) == [LINE] * 4
