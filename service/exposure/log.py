"""The log as the service sees it: something that takes an answer's bytes and never makes anybody wait."""

from __future__ import annotations

from service.exposure.buffer import ExposureBuffer
from service.exposure.counts import ExposureCounts
from service.exposure.files import ExposureFiles
from service.exposure.rule import ExposureRule
from service.exposure.writer import ExposureWriter


class ExposureLog:
    """Keeps answers by a rule. ``offer`` is for one thread, the event loop's; starts a thread of its own.

    What was taken is on disk some 50 ms later; a process that is killed takes with it what waits (docs/exposures.md).
    """

    def __init__(self, rule: ExposureRule, files: ExposureFiles | None = None) -> None:
        self._buffer = ExposureBuffer(rule.capacity_bytes)
        self._writer = ExposureWriter(self._buffer, files or ExposureFiles(rule), rule)
        self._offered = self._full = self._disk = self._late = self._left = 0
        self._is_closed = False
        self._writer.start()

    def offer(self, answer: bytes) -> bool:
        """Take the JSON of an answer that goes out now; False: dropped and counted. Never blocks, never raises."""
        self._offered += 1
        if self._buffer.offer(answer):
            return True
        if self._is_closed:
            self._late += 1
        elif self._writer.is_failing:
            self._disk += 1
        else:
            self._full += 1
        return False

    def close(self, timeout_s: float) -> None:
        """Write what waits, within ``timeout_s``, and end the file; blocks. What is left then counts as dropped for good."""
        if self._is_closed:
            return
        self._is_closed = True
        self._buffer.close()
        self._writer.end(timeout_s)
        self._left = self._buffer.waiting

    @property
    def counts(self) -> ExposureCounts:
        """What became of the answers so far; from any thread. No number ever falls but those of what waits."""
        writer = self._writer
        closed = self._late + self._left
        return ExposureCounts(
            offered=self._offered,
            written=writer.written,
            dropped={"full": self._full, "disk": self._disk, "unusable": writer.unusable, "closed": closed},
            waiting_bytes=self._buffer.waiting_bytes,
            is_failing=writer.is_failing,
        )
