"""Several worker processes on one port: uvicorn's supervisor, with SIGHUP meaning "reload the plan", not "restart"."""

from __future__ import annotations

import os
import signal

from prometheus_client import multiprocess
from uvicorn.supervisors.multiprocess import Multiprocess


class Workers(Multiprocess):
    """Forwards SIGHUP to the workers and forgets the live gauges of dead ones."""

    def handle_hup(self) -> None:
        """Pass the signal on; each worker reloads its plan. One that is still starting reads the newest plan anyway."""
        for process in self.processes:
            if process.pid is not None and process.process.is_alive() and process.is_ready(timeout=1):
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        """As uvicorn does, and drop the metrics files of workers that were replaced."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            if pid is not None:
                multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
