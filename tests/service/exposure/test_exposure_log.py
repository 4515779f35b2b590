"""Every answer that the log took is in the files, once, in order, byte for byte; every other one is counted."""

import json
import random
import time

import pytest

from service.exposure import writer
from service.exposure.log import ExposureLog
from tests.service.exposure.stand_ins import (
    SickFiles,
    StuckFiles,
    a_rule,
    an_answer,
    answers_in,
    lines_in,
    total,
    wait_until,
)


def test_answers_stand_in_the_file_as_they_went_out(tmp_path):
    log = ExposureLog(a_rule(tmp_path))
    answers = [an_answer(number, user=f"u {number}") for number in range(300)]
    before = time.time()
    assert all(log.offer(answer) for answer in answers)
    after = time.time()
    log.close(10)
    assert answers_in(tmp_path) == answers
    records = [json.loads(line) for line in lines_in(tmp_path)]
    assert [list(record) for record in records] == [["served_at", "answer"]] * 300
    times = [record["served_at"] for record in records]
    assert times == sorted(times)
    assert before - 1e-6 <= times[0] <= times[-1] <= after + 1e-6
    counts = log.counts
    assert (counts.offered, counts.written, sum(counts.dropped.values()), counts.waiting_bytes) == (300, 300, 0, 0)


def test_what_was_taken_is_in_the_file_soon_without_a_close(tmp_path):
    log = ExposureLog(a_rule(tmp_path))
    log.offer(an_answer(1))
    wait_until(lambda: answers_in(tmp_path, ".open") == [an_answer(1)])
    log.close(10)


def test_nothing_offered_leaves_no_file(tmp_path):
    log = ExposureLog(a_rule(tmp_path / "made only when needed"))
    log.close(10)
    assert not list(tmp_path.iterdir())


def test_memory_is_bounded_and_what_does_not_fit_is_dropped_and_counted(tmp_path):
    rule = a_rule(tmp_path, capacity_bytes=100_000)
    files = StuckFiles(rule)
    log = ExposureLog(rule, files)
    taken = [number for number in range(1_000) if log.offer(an_answer(number, padding=400))]
    counts = log.counts
    assert 150 < len(taken) < 250
    assert counts.waiting_bytes <= 100_000
    assert counts.dropped["full"] == 1_000 - len(taken)
    files.let_go.set()
    log.close(10)
    assert answers_in(tmp_path) == [an_answer(number, padding=400) for number in taken]
    assert total(log.counts) == log.counts.offered == 1_000


def test_many_short_answers_count_with_what_they_cost_in_memory(tmp_path):
    rule = a_rule(tmp_path, capacity_bytes=100_000)
    files = StuckFiles(rule)
    log = ExposureLog(rule, files)
    assert sum(log.offer(b"{}") for _ in range(10_000)) < 1_200
    files.let_go.set()
    log.close(10)


def test_an_answer_that_is_no_single_line_is_dropped_and_its_neighbours_stay(tmp_path):
    log = ExposureLog(a_rule(tmp_path))
    for answer in (an_answer(1), b'{"a":\n1}', an_answer(2)):
        log.offer(answer)
    log.close(10)
    assert answers_in(tmp_path) == [an_answer(1), an_answer(2)]
    assert log.counts.dropped["unusable"] == 1
    assert total(log.counts) == 3


def test_a_full_buffer_wakes_the_writer_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_PAUSE_S", 3_600.0)
    log = ExposureLog(a_rule(tmp_path, capacity_bytes=100_000))
    for number in range(100):
        log.offer(an_answer(number, padding=400))
    wait_until(lambda: log.counts.written > 0)
    log.close(10)
    assert log.counts.written == 100


def test_one_write_for_all_that_wait(tmp_path):
    rule = a_rule(tmp_path)
    files = SickFiles(rule)
    log = ExposureLog(rule, files)
    for number in range(500):
        log.offer(an_answer(number))
    wait_until(lambda: log.counts.written == 500)
    assert files.appends <= 3
    log.close(10)


def test_an_idle_log_touches_no_file(tmp_path):
    rule = a_rule(tmp_path)
    files = SickFiles(rule)
    log = ExposureLog(rule, files)
    time.sleep(0.2)
    assert files.appends == 0
    log.close(10)


def test_after_closing_everything_is_dropped_and_counted(tmp_path):
    log = ExposureLog(a_rule(tmp_path))
    log.offer(an_answer(1))
    log.close(10)
    log.close(10)
    assert not log.offer(an_answer(2))
    assert log.counts.dropped["closed"] == 1
    assert answers_in(tmp_path) == [an_answer(1)]


def test_a_disk_that_never_answers_holds_up_closing_no_longer_than_asked(tmp_path):
    rule = a_rule(tmp_path)
    files = StuckFiles(rule)
    log = ExposureLog(rule, files)
    for number in range(10):
        log.offer(an_answer(number))
    assert files.is_stuck.wait(10)
    log.close(0.1)
    counts = log.counts
    assert counts.dropped["closed"] == 10
    files.let_go.set()
    wait_until(lambda: list(tmp_path.glob("*.jsonl")))
    assert log.counts == counts, "counted once for all, whatever the disk did later"


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_disk_does_the_files_hold_what_was_taken(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(writer, "_RETRY_S", 0.01)
    monkeypatch.setattr(writer, "_PAUSE_S", 0.002)
    rule = a_rule(tmp_path, capacity_bytes=60_000, rotate_bytes=5_000)
    files, draw = SickFiles(rule), random.Random(seed)
    log, taken = ExposureLog(rule, files), []
    for number in range(1_500):
        if draw.random() < 0.02:
            files.is_refusing = not files.is_refusing
        if draw.random() < 0.05:
            time.sleep(0.003)
        answer = an_answer(number, padding=draw.randrange(300))
        if log.offer(answer):
            taken.append(answer)
    files.is_refusing = False
    log.close(20)
    assert answers_in(tmp_path) == taken
    counts = log.counts
    assert counts.offered == total(counts) == 1_500
    assert counts.written == len(taken)
    assert len(list(tmp_path.glob("*.jsonl"))) > 10
