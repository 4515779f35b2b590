"""A process that is killed leaves whole lines, possibly but the last; the next process in the directory ends its file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.exposure.leftovers import end_leftovers
from service.exposure.log import ExposureLog
from tests.service.exposure.stand_ins import a_rule, an_answer, answers_in, wait_until

ROOT = Path(__file__).parents[3]

ENDLESS = """
import sys, time
from pathlib import Path
from service.exposure.log import ExposureLog
from tests.service.exposure.stand_ins import a_rule, an_answer
log, number = ExposureLog(a_rule(Path(sys.argv[1]))), 0
while True:
    for _ in range(50):
        log.offer(an_answer(number, padding=2_000))
        number += 1
    time.sleep(0.001)
"""


def killed_process(directory):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(directory)], cwd=ROOT, env=environment)
    try:
        wait_until(lambda: sum(path.stat().st_size for path in directory.glob("*.open")) > 2_000_000, timeout_s=30)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


def test_a_killed_process_leaves_whole_lines_and_the_next_ends_its_file(tmp_path):
    killed_process(tmp_path)
    (left,) = tmp_path.glob("*.open")
    *whole, last = left.read_bytes().split(b"\n")
    with left.open("ab") as file:
        file.write(b'{"served_at":1.0,"answer":{"torn')
    log = ExposureLog(a_rule(tmp_path))
    wait_until(lambda: not left.exists())
    log.close(10)
    assert answers_in(tmp_path) == [an_answer(number, padding=2_000) for number in range(len(whole))]
    assert len(whole) > 500
    assert len(last) < 3_000


def test_a_living_process_keeps_its_file(tmp_path):
    log = ExposureLog(a_rule(tmp_path))
    log.offer(an_answer(1))
    wait_until(lambda: log.counts.written == 1)
    assert end_leftovers(tmp_path) == 0
    assert len(list(tmp_path.glob("*.open"))) == 1
    log.close(10)
    assert answers_in(tmp_path) == [an_answer(1)]


@pytest.mark.parametrize(
    ("content", "kept"), [(b"", None), (b"torn", None), (b"a\nb\n", b"a\nb\n"), (b"a\n" + b"x" * 200_000, b"a\n")]
)
def test_what_is_torn_is_cut_and_what_is_empty_goes(tmp_path, content, kept):
    (tmp_path / "exposures-1-1-000001.jsonl.open").write_bytes(content)
    (tmp_path / "of-somebody-else.jsonl.open").write_bytes(b"torn")
    assert end_leftovers(tmp_path) == 1
    ended = tmp_path / "exposures-1-1-000001.jsonl"
    assert (ended.read_bytes() if ended.exists() else None) == kept
    assert (tmp_path / "of-somebody-else.jsonl.open").exists()


def test_a_directory_that_is_not_there_has_no_leftovers(tmp_path):
    assert end_leftovers(tmp_path / "nowhere") == 0
