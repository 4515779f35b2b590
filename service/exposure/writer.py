"""The thread that carries exposures to the disk: in one write for all that wait, at most some twenty times a second."""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from service.exposure.buffer import ExposureBuffer
from service.exposure.files import ExposureFiles
from service.exposure.leftovers import end_leftovers
from service.exposure.record import Pseudonym, lines_of
from service.exposure.rule import ExposureRule

_log = logging.getLogger("rankline.exposures")
_PAUSE_S = 0.05
_RETRY_S = 1.0
_CHUNK_BYTES = 1_048_576


class ExposureWriter:
    """Takes from the buffer until it is told to end. A thread of its own, never waited for longer than ``end`` says."""

    def __init__(self, buffer: ExposureBuffer, files: ExposureFiles, rule: ExposureRule) -> None:
        self._buffer = buffer
        self._files = files
        self._directory = rule.directory
        self._chunk_bytes = min(_CHUNK_BYTES, rule.rotate_bytes)
        self._pseudonym = None if rule.key is None else Pseudonym(rule.key)
        self._is_ending = False
        self._is_given_up = False
        self._booking = threading.Lock()
        self._retry_at = 0.0
        self.written = self.unusable = 0
        self.is_failing = False
        self._thread = threading.Thread(target=self._run, name="exposures", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self, timeout_s: float) -> None:
        """Write what waits and end the file, within ``timeout_s``; after it nothing more is counted."""
        self._is_ending = True
        self._buffer.wake.set()
        self._thread.join(timeout_s)
        with self._booking:
            self._is_given_up = True

    def _run(self) -> None:
        try:
            end_leftovers(self._directory)
        except Exception as error:  # they wait for the next process; this one has its own to write
            _log.error("exposure files of dead processes stay open", extra={"reason": _reason(error)})
        is_last = False
        while not is_last:
            self._buffer.wake.wait(_PAUSE_S)
            self._buffer.wake.clear()
            is_last = self._is_ending
            if is_last or time.monotonic() >= self._retry_at:
                self._try_to_write()
        with contextlib.suppress(Exception):
            self._files.finish()

    def _try_to_write(self) -> None:
        try:
            while self._write_chunk():
                pass
            self._files.look()
        except Exception as error:  # whatever it is: nobody would write for the rest of this process's life
            self._tell(error)
            self._retry_at = time.monotonic() + _RETRY_S
        else:
            self._tell(None)

    def _write_chunk(self) -> bool:
        """Write the oldest; False when nothing waits."""
        times, answers = self._buffer.first(self._chunk_bytes)
        if not answers:
            return False
        lines = lines_of(times, answers, self._pseudonym)
        content = b"".join(lines)
        kept = self._files.append(content) if content else 0
        # The disk may have kept the beginning only: the rest stays, for the next file.
        done = len(lines) if kept == len(content) else _lines_within(lines, kept)
        with self._booking:
            if not self._is_given_up:
                unusable = lines[:done].count(b"")
                self.unusable += unusable
                self.written += done - unusable
                self._buffer.let_go(answers[:done])
        return not self._is_given_up

    def _tell(self, error: Exception | None) -> None:
        if error is not None and not self.is_failing:
            _log.error("exposures cannot be written; tried again every second", extra={"reason": _reason(error)})
        elif error is None and self.is_failing:
            _log.warning("exposures are written again")
        self.is_failing = error is not None


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _lines_within(lines: list[bytes], size: int) -> int:
    """How many lines lie in the first ``size`` bytes."""
    count = 0
    for line in lines:
        size -= len(line)
        if size < 0:
            break
        count += 1
    return count
