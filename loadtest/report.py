"""The result in words: a short summary for the terminal and a page in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from loadtest.measures import Distribution
from loadtest.result import RunResult
from loadtest.verdict import Verdict


def summary(result: RunResult) -> str:
    """What the terminal shows at the end of a run."""
    traffic, inspection = result.measures.traffic, result.measures.inspection
    lines = [
        f"verdict     {result.verdict.word}",
        f"throughput  {traffic.answers_per_s:.1f} of {result.options.schedule.rate_per_s} asked answers/s,"
        f" {traffic.candidates_per_s:,.0f} candidates/s",
        f"latency     {_one_line(result.measures.ok_ms)}",
        f"errors      {traffic.error_share:.2%} of {traffic.arrivals} arrivals{_counts(traffic.errors)},"
        f" dropped {traffic.dropped}",
        f"degraded    {_share(inspection.degraded_share)} of {inspection.answers} answers read"
        f"{_counts(inspection.degraded_by)}",
    ]
    stages = ", ".join(f"{name} {found.p50:.2f}/{found.p99:.2f}" for name, found in inspection.stages_ms.items())
    lines.append(f"stages      {stages or 'the answers have no timings_ms'}" + (" (p50/p99 ms)" if stages else ""))
    lines.extend(f"  {kind}: {text}" for kind, text in _remarks(result.verdict))
    return "\n".join(lines)


def markdown(result: RunResult) -> str:
    """The report page; its plot lies beside it as ``latency.png``."""
    sections = [
        f"# Load test: {result.verdict.word}",
        _asked(result),
        "\n".join(f"- **{kind}**: {text}" for kind, text in _remarks(result.verdict)),
        "![Latency over time, its distribution, and the time by stage](latency.png)",
        "## Throughput and errors",
        _traffic_table(result),
        "## Latency",
        f"Milliseconds {result.latency_definition}. Exact percentiles (nearest rank), the warm-up left out.",
        _latency_table(result),
        "## Stages",
        _stages_section(result),
        "## Processor and machine",
        _machine_table(result),
        "## Repeat it",
        f"```\n{result.command}\n```",
    ]
    if result.measures.inspection.problems:
        refusals = "\n".join(json.dumps(text) for text in result.measures.inspection.problems)
        sections[-2:-2] = ["## What refusals said", f"```\n{refusals.replace('`', chr(39))}\n```"]
    return "\n\n".join(section for section in sections if section) + "\n"


def _asked(result: RunResult) -> str:
    options, recipe = result.options, result.options.recipe
    candidates = f"{recipe.candidates_min}"
    if recipe.candidates_max > recipe.candidates_min:
        candidates += f" to {recipe.candidates_max}"
    schedule = options.schedule
    return (
        f"{schedule.rate_per_s} requests per second at a constant rate (open loop) for {schedule.duration_s:g} s"
        f" after {schedule.warmup_s:g} s of warm-up, {candidates} candidates each, to {options.url}."
        f" Started {result.started_at}."
    )


def _traffic_table(result: RunResult) -> str:
    traffic, inspection = result.measures.traffic, result.measures.inspection
    rows = [
        ("answers/s (status 200), achieved of asked", f"{traffic.answers_per_s:.1f} of {result.options.schedule.rate_per_s}"),
        ("candidates/s", f"{traffic.candidates_per_s:,.0f}"),
        ("arrivals, answered with 200", f"{traffic.arrivals}, {traffic.answered_200}"),
        ("errors", f"{traffic.error_share:.2%}{_counts(traffic.errors)}"),
        ("dropped arrivals (whole run), without a record", f"{traffic.dropped}, {traffic.unrecorded}"),
        ("connections opened", str(traffic.connections_opened)),
        ("answers read (1 in " + f"{result.options.inspect_every})", str(inspection.answers)),
        ("degraded, of these", f"{_share(inspection.degraded_share)}{_counts(inspection.degraded_by)}"),
        ("wrong answers, of these", f"{sum(inspection.faults.values())}{_counts(inspection.faults)}"),
        ("models that answered", _counts(inspection.models).strip(" ()") or "not said"),
    ]
    return _table(("", ""), rows)


def _latency_table(result: RunResult) -> str:
    measures = result.measures
    named = (
        ("status 200", measures.ok_ms),
        ("all arrivals", measures.all_ms),
        ("HTTP only (sent to last byte, status 200)", measures.http_ms),
        ("generator lag (due to sent)", measures.lag_ms),
    )
    return _distributions("", named)


def _stages_section(result: RunResult) -> str:
    stages = result.measures.inspection.stages_ms
    if not stages:
        return "The answers have no `timings_ms`."
    words = "The service's own `timings_ms`; `outside` is what the client saw beyond them (network, accepting, HTTP parsing)."
    return f"{words}\n\n{_distributions('stage', stages.items())}"


def _machine_table(result: RunResult) -> str:
    machine, busy, payloads = result.machine, result.cores_busy, result.payloads
    service = "?" if machine.service_cores is None else str(machine.service_cores)
    rows = [
        ("machine", f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB, {machine.system}"),
        ("cores allowed: generator, service", f"{machine.generator_cores}, {service}"),
        ("load average before", str(machine.load_average_1m)),
        (
            "payloads",
            f"{result.options.recipe.count}, {payloads.candidates_mean:.1f} candidates each, sha256 {payloads.sha256[:16]}",
        ),
        ("seed, users, items", f"{result.options.recipe.seed}, {payloads.known_users}, {payloads.known_items}"),
        ("versions", f"{machine.k6}, Python {machine.python}"),
    ]
    if busy is not None:
        service_busy = "no --server-pid" if busy.service is None else f"{busy.service:.2f}"
        used = f"{busy.generator:.2f}, {service_busy}, {busy.machine:.2f}"
        rows.insert(2, ("cores busy: generator, service, whole machine", used))
    return _table(("", ""), rows)


def _distributions(title: str, named: Iterable[tuple[str, Distribution | None]]) -> str:
    head = (title, "count", "mean", "p50", "p90", "p95", "p99", "p99.9", "max")
    rows = [
        (name, str(d.count), *(f"{value:.2f}" for value in (d.mean, d.p50, d.p90, d.p95, d.p99, d.p99_9, d.max)))
        for name, d in named
        if d is not None
    ]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Names from answers may hold anything; a cell is one line without bars or markup."""
    return " ".join(text.split()).replace("|", "/").replace("<", "‹").replace("`", "'")


def _remarks(verdict: Verdict) -> Iterable[tuple[str, str]]:
    for kind, texts in (("invalid", verdict.invalid), ("missed", verdict.missed), ("note", verdict.notes)):
        yield from ((kind, text) for text in texts)


def _one_line(found: Distribution | None) -> str:
    if found is None:
        return "no answer with status 200"
    return (
        f"p50 {found.p50:.2f}  p95 {found.p95:.2f}  p99 {found.p99:.2f}  p99.9 {found.p99_9:.2f}  max {found.max:.2f} ms"
        f" ({found.count} answers)"
    )


def _counts(counts: dict[str, int]) -> str:
    return " (" + ", ".join(f"{name}: {number}" for name, number in counts.items()) + ")" if counts else ""


def _share(share: float | None) -> str:
    return "?" if share is None else f"{share:.2%}"
