"""One load run from options to files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtest.arrivals import Arrivals, read_arrivals
from loadtest.cpu import CpuTimeline, find_process
from loadtest.errors import OptionRefusedError
from loadtest.ids import read_ids
from loadtest.k6 import GeneratorJob, find_k6, k6_version, run_k6
from loadtest.machine import Machine, describe_machine
from loadtest.measures import measure
from loadtest.options import LoadOptions
from loadtest.payloads import Payloads, write_payloads
from loadtest.plot import save_plot
from loadtest.report import markdown
from loadtest.result import LATENCY_DEFINITION, SCHEMA_VERSION, RunResult
from loadtest.target import parse_target, probe
from loadtest.verdict import judge

# A cold service may take longer over its first answer than the run allows.
_PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is settled before the load: everything that can be refused was."""

    binary: Path
    job: GeneratorJob
    payloads: Payloads
    machine: Machine
    service_ready: Any
    started_at: str


def run_load(options: LoadOptions, command: str, on_tick: Callable[[float], None]) -> RunResult:
    """Make one run and write ``payloads.jsonl``, ``result.json``, ``report.md``, ``latency.png`` and ``k6.log``.

    Args:
        options: what to do.
        command: the command line, written into the result.
        on_tick: gets the seconds since k6 was started, a few times a second.

    Raises:
        LoadTestError: the run could not be made. An invalid run is no error: see ``RunResult.verdict``.
    """
    prepared = _prepare(options)
    generated = run_k6(
        prepared.binary, prepared.job, options.out, pin=options.pin, server_pid=options.server_pid, on_tick=on_tick
    )
    arrivals = read_arrivals(generated.samples_path, options.schedule)
    result = _result(options, command, prepared, arrivals, generated.cpu)
    (options.out / "result.json").write_text(result.to_json())
    (options.out / "report.md").write_text(markdown(result))
    save_plot(options.out / "latency.png", arrivals, result)
    if not options.keep_raw:
        generated.samples_path.unlink()
    return result


def _prepare(options: LoadOptions) -> _Prepared:
    target = parse_target(options.url, allow_remote=options.allow_remote)
    binary = find_k6()
    if options.server_pid is not None:
        find_process(options.server_pid)
    users, items = read_ids(options.users), read_ids(options.items)
    payloads = write_payloads(_make_folder(options.out) / "payloads.jsonl", users, items, options.recipe)
    machine = describe_machine(k6_version(binary), pin=options.pin, server_pid=options.server_pid)
    job = GeneratorJob(
        url=target.rank_url,
        payloads_path=payloads.path,
        rate_per_s=options.schedule.rate_per_s,
        total_s=options.schedule.total_s,
        timeout_s=options.timeout_s,
        vus_max=options.vus_max,
        inspect_every=options.inspect_every,
    )
    ready = probe(target, payloads.first_body, _PROBE_TIMEOUT_S)
    return _Prepared(binary, job, payloads, machine, ready, datetime.now(UTC).isoformat(timespec="seconds"))


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionRefusedError(f"--out {folder} is no folder that can be written: {error}") from None
    return folder


def _result(options: LoadOptions, command: str, prepared: _Prepared, arrivals: Arrivals, cpu: CpuTimeline) -> RunResult:
    measures = measure(arrivals, options.schedule, prepared.payloads.candidate_counts)
    busy = cpu.busy(*measures.window_s)
    return RunResult(
        schema_version=SCHEMA_VERSION,
        started_at=prepared.started_at,
        command=command,
        latency_definition=LATENCY_DEFINITION,
        verdict=judge(options, measures, prepared.machine, busy),
        options=options,
        payloads=prepared.payloads.facts,
        measures=measures,
        cores_busy=busy,
        machine=prepared.machine,
        service_ready=prepared.service_ready,
    )
