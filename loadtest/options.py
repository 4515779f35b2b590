"""What one load run is asked to do, within limits: a typo must not become an attack."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.errors import OptionRefusedError

MAX_RATE_PER_S = 10_000
MAX_DURATION_S = 15 * 60.0
MAX_ARRIVALS = 600_000
MAX_CANDIDATES = 20_000
MAX_VUS = 10_000
MAX_TIMEOUT_S = 60.0

# k6 stops at the end of its duration; a little more makes sure that the last measured arrival is sent.
_TAIL_S = 0.25
_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
# What --extra-fields may not set: the run itself decides these.
_OWN_FIELDS = ("user_id", "candidates", "top_k", "request_id", "candidate_features")


@dataclass(frozen=True, slots=True)
class IdColumn:
    """The column of one table that holds ids."""

    path: Path
    column: str

    def __str__(self) -> str:
        return f"{self.path}:{self.column}"


@dataclass(frozen=True, slots=True)
class PayloadRecipe:
    """How request bodies are drawn; with the same ids and the same numpy, the same recipe gives the same bytes."""

    count: int
    candidates_min: int
    candidates_max: int
    top_k: int | None
    seed: int
    user_skew: float
    unknown_users: float
    unknown_items: float
    extra_fields: dict[str, Any]

    def __post_init__(self) -> None:
        _within("--payloads", self.count, 1, 100_000)
        _within("--candidates", self.candidates_min, 1, MAX_CANDIDATES)
        _within("--candidates-max", self.candidates_max, self.candidates_min, MAX_CANDIDATES)
        _within("--seed", self.seed, 0, 2**63 - 1)
        _within("--user-skew", self.user_skew, 0.0, 5.0)
        _within("--unknown-users", self.unknown_users, 0.0, 1.0)
        _within("--unknown-items", self.unknown_items, 0.0, 1.0)
        if self.top_k is not None:
            _within("--top-k", self.top_k, 1, MAX_CANDIDATES)
        taken = [name for name in _OWN_FIELDS if name in self.extra_fields]
        if taken:
            raise OptionRefusedError(f"--extra-fields may not set {', '.join(taken)}: the run draws them itself")


@dataclass(frozen=True, slots=True)
class Schedule:
    """When arrivals are due. Arrival ``n`` is due ``n`` periods after the start; the warm-up is the first ``first`` of them."""

    rate_per_s: int
    warmup_s: float
    duration_s: float

    def __post_init__(self) -> None:
        _within("--rate", self.rate_per_s, 1, MAX_RATE_PER_S)
        _within("--warmup", self.warmup_s, 0.0, 120.0)
        _within("--duration", self.duration_s, 1.0, MAX_DURATION_S)
        if self.first + self.count > MAX_ARRIVALS:
            raise OptionRefusedError(f"the run has {self.first + self.count} arrivals, the limit is {MAX_ARRIVALS}")

    @property
    def first(self) -> int:
        """The number of the first measured arrival."""
        return math.ceil(self.rate_per_s * self.warmup_s)

    @property
    def count(self) -> int:
        """How many arrivals are measured."""
        return math.floor(self.rate_per_s * self.duration_s)

    @property
    def period_us(self) -> float:
        """Microseconds between arrivals; k6 cuts its period to whole nanoseconds, and so does this."""
        return (1_000_000_000 // self.rate_per_s) / 1e3

    @property
    def total_s(self) -> float:
        """How long k6 sends: warm-up, measured part and a short tail."""
        return (self.first + self.count) / self.rate_per_s + _TAIL_S


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the run must reach; None is not asked."""

    max_p99_ms: float | None
    max_error_share: float | None
    max_degraded_share: float | None

    def __post_init__(self) -> None:
        if self.max_p99_ms is not None:
            _within("--max-p99-ms", self.max_p99_ms, 0.001, MAX_TIMEOUT_S * 1e3)
        if self.max_error_share is not None:
            _within("--max-error-share", self.max_error_share, 0.0, 1.0)
        if self.max_degraded_share is not None:
            _within("--max-degraded-share", self.max_degraded_share, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """One load run."""

    url: str
    allow_remote: bool
    users: IdColumn
    items: IdColumn
    recipe: PayloadRecipe
    schedule: Schedule
    thresholds: Thresholds
    out: Path
    timeout_s: float
    vus_max: int
    inspect_every: int
    pin: frozenset[int] | None
    server_pid: int | None
    keep_raw: bool

    def __post_init__(self) -> None:
        _within("--timeout", self.timeout_s, 0.01, MAX_TIMEOUT_S)
        _within("--vus-max", self.vus_max, 1, MAX_VUS)
        _within("--inspect-every", self.inspect_every, 1, 1_000_000)


def default_vus(rate_per_s: int) -> int:
    """One virtual user per arrival of a second, so a stall of one second drops nothing.

    Not more: k6 takes its virtual users (a connection each) in turn, and a connection that rests longer than the server's
    keep-alive time (5 s in uvicorn) is opened anew inside the measurement.
    """
    return min(2000, max(10, rate_per_s))


def parse_length(text: str) -> float:
    """Seconds of a length such as ``20s``, ``500ms`` or ``2m``.

    Raises:
        OptionRefusedError: no number with a unit.
    """
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise OptionRefusedError(f"{text!r} is no length of time: write a number and a unit, such as 20s, 500ms or 2m")
    return float(match[1]) * _UNITS_S[match[2]]


def parse_id_column(text: str) -> IdColumn:
    """The table and column of ``FILE:COLUMN``.

    Raises:
        OptionRefusedError: no colon, or nothing on one side of it.
    """
    path, colon, column = text.rpartition(":")
    if not (colon and path and column):
        raise OptionRefusedError(f"{text!r} names no id column: write FILE:COLUMN, such as users.parquet:user_id")
    return IdColumn(Path(path), column)


def parse_cores(text: str) -> frozenset[int]:
    """Core numbers of a list such as ``0,2-3``.

    Raises:
        OptionRefusedError: not such a list.
    """
    cores: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise OptionRefusedError(f"{text!r} is no list of cores: write numbers and ranges, such as 0,2-3")
        cores.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(cores)


def parse_extra_fields(text: str) -> dict[str, Any]:
    """The JSON object that is merged into every request.

    Raises:
        OptionRefusedError: not a JSON object.
    """
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise OptionRefusedError(f"--extra-fields is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise OptionRefusedError("--extra-fields must be a JSON object, such as '{\"timeout_ms\": 50}'")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _within(option: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise OptionRefusedError(f"{option} is {value:g}: it must be between {least:g} and {most:g}")
