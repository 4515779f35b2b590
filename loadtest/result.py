"""One run's result: everything that a reader needs to believe, repeat or dispute its figures."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.cpu import CoresBusy
from loadtest.machine import Machine
from loadtest.measures import Measures
from loadtest.options import LoadOptions
from loadtest.payloads import PayloadFacts
from loadtest.verdict import Verdict

SCHEMA_VERSION = 1
LATENCY_DEFINITION = (
    "from the moment the arrival was due by the constant-rate schedule to the last byte of its answer:"
    " the generator's own lateness (lag), waiting for and opening a connection, sending, the service and receiving"
)


@dataclass(frozen=True, slots=True)
class RunResult:
    """One load run. ``service_ready`` is what ``GET /health/ready`` said before it, if anything readable."""

    schema_version: int
    started_at: str
    command: str
    latency_definition: str
    verdict: Verdict
    options: LoadOptions
    payloads: PayloadFacts
    measures: Measures
    cores_busy: CoresBusy | None
    machine: Machine
    service_ready: Any

    def to_json(self) -> str:
        """The result as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2, default=_plain) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
