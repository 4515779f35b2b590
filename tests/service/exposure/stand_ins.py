"""Answers, readers of the log, and disks that misbehave when told to."""

import errno
import json
import threading
import time

from service.exposure.files import ExposureFiles
from service.exposure.rule import ExposureRule


def a_rule(directory, **changes):
    return ExposureRule(**{"directory": directory, "keep_free_bytes": 0, "fsync": "none", **changes})


def an_answer(number, user=5, padding=0):
    return json.dumps({"request_id": f"r-{number}", "user_id": user, "items": [], "pad": "x" * padding}).encode()


def lines_in(directory, suffix=".jsonl"):
    """All lines of the files with that ending, in the order in which they were written."""
    return [line for path in sorted(directory.glob(f"*{suffix}")) for line in path.read_bytes().splitlines(keepends=True)]


def answers_in(directory, suffix=".jsonl"):
    """The answers as bytes, cut out of the lines as the format says."""
    return [line[line.index(b'"answer":') + 9 : -2] for line in lines_in(directory, suffix)]


def wait_until(condition, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def total(counts):
    return counts.written + sum(counts.dropped.values())


class SickFiles(ExposureFiles):
    """Refuses while told to; ``appends`` counts tries."""

    def __init__(self, rule):
        super().__init__(rule)
        self.is_refusing = False
        self.appends = 0

    def append(self, lines):
        self.appends += 1
        if self.is_refusing:
            raise OSError(errno.ENOSPC, "no space")
        return super().append(lines)


class StuckFiles(ExposureFiles):
    """Lets nothing return before ``let_go`` is set."""

    def __init__(self, rule):
        super().__init__(rule)
        self.let_go = threading.Event()
        self.is_stuck = threading.Event()

    def append(self, lines):
        self.is_stuck.set()
        self.let_go.wait(30)
        return super().append(lines)
