"""The report on writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from feature_store.benchmarks.http_writes import HttpLoad, HttpRate
from feature_store.benchmarks.made_events import HISTORY_LENGTH, USERS
from feature_store.benchmarks.report_text import COMMAND, machine_lines, rounded, spread_text, table
from feature_store.benchmarks.write_rate import Rate
from feature_store.benchmarks.writes import WritePlan, WriteRates

HttpRates = list[tuple[HttpLoad, HttpRate]]
_HEAD = ["", "events/s", "events per CPU second", "CPU µs an event: process", "store", "a step, ms"]


def write_lines(machine: Mapping[str, str], plan: WritePlan, done: WriteRates, http: HttpRates | None) -> list[str]:
    """The report as Markdown; ``http`` is None where no service could be started."""
    return [
        "# Writing live events: what it costs",
        "",
        f"`{COMMAND} writes`. {plan.seconds:g} s for every line, one new event after the other: a click that enters a history "
        f"of {HISTORY_LENGTH}, two half-lives, the event log on; random items, and users out of {USERS:,} where nothing else "
        "is said. *Events per CPU second* divides by the CPU time of both processes, this one and the store's: the rate of one "
        "core that runs both. All callers wait for their answer (a closed loop).",
        "",
        *machine_lines(machine),
        "## The step in the store (`RedisEvents.apply`)",
        "",
        *_rates(done.apply),
        "## The spool alone (append and fsync)",
        "",
        f"One fsync of 4 KiB where the spool lies: {spread_text(done.fsync_ms)} ms, at most {done.fsync_ms.most:.2f} ms. "
        "Appends that wait at one time share it.",
        "",
        *_rates(done.spool),
        "## Spool and store (`EventApplier.submit`: durable and applied when it returns)",
        "",
        *_rates(done.spool_and_apply),
        *_http_lines(http),
    ]


def write_json(machine: Mapping[str, str], plan: WritePlan, done: WriteRates, http: HttpRates | None) -> dict[str, Any]:
    """The figures of the report."""
    return {
        "machine": dict(machine),
        "plan": asdict(plan),
        "apply": {name: _rate_json(rate) for name, rate in done.apply.items()},
        "spool": {name: _rate_json(rate) for name, rate in done.spool.items()},
        "spool_and_apply": {name: _rate_json(rate) for name, rate in done.spool_and_apply.items()},
        "fsync_ms": rounded(asdict(done.fsync_ms)),
        "http": None if http is None else [{**asdict(load), **asdict(rate), "per_s": round(rate.per_s)} for load, rate in http],
    }


def _rate_json(rate: Rate) -> dict[str, Any]:
    return {**asdict(rate), "per_s": round(rate.per_s), "per_core_s": round(rate.per_core_s)}


def _rates(rates: Mapping[str, Rate]) -> list[str]:
    rows = [
        [
            name,
            f"{rate.per_s:,.0f}",
            f"{rate.per_core_s:,.0f}",
            f"{rate.process_us:,.1f}",
            f"{rate.store_us:,.1f}",
            spread_text(rate.step_ms),
        ]
        for name, rate in rates.items()
    ]
    return table(_HEAD, rows)


def _http_lines(http: HttpRates | None) -> list[str]:
    lines = ["## `POST /events` over HTTP", ""]
    if http is None:
        return [*lines, "Not measured: there is no published model that a service could start on (see `--workspace`).", ""]
    rows = [
        [
            f"{_some(load.connections, 'connection')}, {_some(load.events, 'event')} a request",
            f"{rate.per_s:,.0f}",
            f"{rate.events:,}",
            spread_text(rate.answer_ms),
            f"{rate.applied:,}",
            f"{rate.kept:,}",
        ]
        for load, rate in http
    ]
    return [
        *lines,
        "A service of one process and the store share one core; the client has the other. Counted until the store has applied "
        "every event: the rate of one core for all of it, validation, spool with fsync, store and log.",
        "",
        *table(["", "events/s", "events", "an answer, ms", "answers 200 (applied)", "202 (kept)"], rows),
    ]


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
