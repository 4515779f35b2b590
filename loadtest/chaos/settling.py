"""Waiting until the service has applied everything that it keeps."""

from __future__ import annotations

import re
import time
import urllib.error

from loadtest.chaos.service_process import ServiceProcess

_PENDING = re.compile(rb"^rankline_spool_pending_records(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)
_POLL_S = 0.1


def pending_records(metrics: bytes) -> int | None:
    """The backlog that ``/metrics`` tells; None if it tells none."""
    found = [float(value) for value in _PENDING.findall(metrics)]
    return int(sum(found)) if found else None


def wait_until_settled(service: ServiceProcess, *, settle_s: float = 2.0, max_s: float = 120.0) -> str | None:
    """Return once the backlog was empty for ``settle_s`` on end; gives what is wrong otherwise."""
    give_up = time.monotonic() + max_s
    empty_since = None
    pending = None
    while time.monotonic() < give_up:
        try:
            pending = pending_records(service.get("/metrics"))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pending = None
        now = time.monotonic()
        empty_since = (empty_since or now) if pending == 0 else None
        if empty_since is not None and now - empty_since >= settle_s:
            return None
        time.sleep(_POLL_S)
    return (
        f"{pending if pending is not None else 'an unknown number of'} events were not applied {max_s:g} s after the last one"
    )
