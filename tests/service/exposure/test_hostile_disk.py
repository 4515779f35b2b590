"""A disk that is full, gone or refuses: the service goes on, what does not fit is counted, and it heals by itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.exposure import writer
from service.exposure.files import ExposureFiles
from service.exposure.log import ExposureLog
from tests.service.exposure.stand_ins import SickFiles, a_rule, an_answer, answers_in, lines_in, total, wait_until

ROOT = Path(__file__).parents[3]

LIMITED = """
import resource, sys
from pathlib import Path
from service.exposure.log import ExposureLog
from tests.service.exposure.stand_ins import a_rule, an_answer, total
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
log = ExposureLog(a_rule(Path(sys.argv[1])))
for number in range(1_000):
    log.offer(an_answer(number, padding=number % 100))
log.close(20)
counts = log.counts
assert counts.written == counts.offered == total(counts) == 1_000, counts
"""


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(writer, "_RETRY_S", 0.02)


def test_writes_that_the_system_cuts_lose_nothing(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], cwd=ROOT, env=environment, check=True, timeout=50)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.jsonl")]
    assert max(sizes) <= 10_000
    assert len(sizes) > 5
    assert not list(tmp_path.glob("*.open"))
    assert all(line.endswith(b"}\n") for line in lines_in(tmp_path))
    assert answers_in(tmp_path) == [an_answer(number, padding=number % 100) for number in range(1_000)]


def test_a_full_disk_drops_what_finds_no_room_and_heals(tmp_path):
    rule = a_rule(tmp_path, capacity_bytes=20_000)
    files = SickFiles(rule)
    files.is_refusing = True
    log = ExposureLog(rule, files)
    log.offer(an_answer(0))
    wait_until(lambda: log.counts.is_failing)
    taken = [0, *(number for number in range(1, 500) if log.offer(an_answer(number)))]
    assert log.counts.dropped["disk"] == 500 - len(taken) > 0
    assert log.counts.dropped["full"] == 0
    files.is_refusing = False
    wait_until(lambda: log.counts.written == len(taken))
    wait_until(lambda: not log.counts.is_failing)
    assert log.offer(an_answer(500))
    log.close(10)
    assert answers_in(tmp_path) == [an_answer(number) for number in (*taken, 500)]
    assert total(log.counts) == log.counts.offered == 501


def test_a_directory_that_cannot_be_made_is_tried_again(tmp_path):
    in_the_way = tmp_path / "log"
    in_the_way.write_text("a file, not a directory")
    log = ExposureLog(a_rule(in_the_way))
    log.offer(an_answer(1))
    wait_until(lambda: log.counts.is_failing)
    in_the_way.unlink()
    wait_until(lambda: log.counts.written == 1)
    log.close(10)
    assert answers_in(in_the_way) == [an_answer(1)]


def test_a_refusing_disk_is_not_asked_all_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_RETRY_S", 3_600.0)
    rule = a_rule(tmp_path)
    files = SickFiles(rule)
    files.is_refusing = True
    log = ExposureLog(rule, files)
    log.offer(an_answer(1))
    wait_until(lambda: log.counts.is_failing)
    time.sleep(0.3)
    assert files.appends == 1
    files.is_refusing = False
    log.close(10)
    assert log.counts.written == 1, "tried once more at the end"


def test_closing_on_a_disk_that_refuses_counts_what_was_left(tmp_path):
    rule = a_rule(tmp_path)
    files = SickFiles(rule)
    files.is_refusing = True
    log = ExposureLog(rule, files)
    for number in range(7):
        log.offer(an_answer(number))
    log.close(10)
    assert log.counts.dropped["closed"] == 7
    assert total(log.counts) == 7


def test_no_room_and_enough_free_space_again(tmp_path, monkeypatch):
    from service.exposure import files

    real = os.fstatvfs

    class Full:
        f_bavail, f_frsize = 3, 4_096

    log = ExposureLog(a_rule(tmp_path, keep_free_bytes=20_000))
    monkeypatch.setattr(files.os, "fstatvfs", lambda _: Full)
    log.offer(an_answer(1))
    wait_until(lambda: log.counts.is_failing)
    assert log.counts.written == 0
    monkeypatch.setattr(files.os, "fstatvfs", real)
    wait_until(lambda: log.counts.written == 1)
    log.close(10)
    assert answers_in(tmp_path) == [an_answer(1)]


@pytest.mark.parametrize("fault", [ValueError("a fault of our own"), RuntimeError("another"), MemoryError()])
def test_no_fault_ends_the_writer_and_each_is_told_once(tmp_path, monkeypatch, caplog, fault):
    rule = a_rule(tmp_path)
    files, real, tries = ExposureFiles(rule), ExposureFiles.append, []

    def append(files, lines):
        tries.append(lines)
        if len(tries) < 4:
            raise fault
        return real(files, lines)

    monkeypatch.setattr(ExposureFiles, "append", append)
    log = ExposureLog(rule, files)
    log.offer(an_answer(1))
    wait_until(lambda: log.counts.written == 1)
    log.close(10)
    assert answers_in(tmp_path) == [an_answer(1)]
    told = [record.reason for record in caplog.records if "cannot be written" in record.message]
    assert told == [f"{type(fault).__name__}: {fault}"]


def test_a_fault_among_the_leftovers_does_not_end_the_writer(tmp_path, monkeypatch):
    def fault(_):
        raise ValueError("a fault of our own")

    monkeypatch.setattr(writer, "end_leftovers", fault)
    log = ExposureLog(a_rule(tmp_path))
    log.offer(an_answer(1))
    wait_until(lambda: log.counts.written == 1)
    log.close(10)
    assert answers_in(tmp_path) == [an_answer(1)]
