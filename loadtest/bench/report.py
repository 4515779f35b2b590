"""The benchmark's figures as Markdown, JSON and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.bench.plots import draw_latency, draw_overload, draw_throughput
from loadtest.bench.targets import targets

_PEER_RATIOS = ("same_graph_ratio", "ratio")
_FEWEST_FOR_P999 = 10_000
_COLUMNS = ("bare textbook", "bare rewritten", "service same graph", "service rewritten")


def write_report(results: Mapping[str, Any], out: Path) -> None:
    """``bench.json``, ``bench.md`` and the pictures of what was measured."""
    out.mkdir(parents=True, exist_ok=True)
    found = list(targets(results))
    ratios = [{**asdict(each), "verdict": each.verdict} for each in found]
    (out / "bench.json").write_text(json.dumps({**results, "ratios": ratios}, indent=1) + "\n", encoding="utf-8")
    (out / "bench.md").write_text("\n".join(_text(results, ratios)) + "\n", encoding="utf-8")
    if "throughput" in results:
        draw_throughput(results["throughput"], out / "throughput.png")
    if "latency" in results:
        draw_latency(results["latency"], out / "latency.png")
    if "overload" in results:
        draw_overload(results["overload"], out / "overload.png")


def _text(results: Mapping[str, Any], ratios: list[dict[str, Any]]) -> Iterator[str]:
    yield "# Benchmark"
    yield ""
    yield "Written by the command itself. Sections may come from several runs:"
    yield ""
    for section, run in results["runs"].items():
        yield f"- {section}: `{run['command']}`, {run['finished_at']}, load average before {run['load_average']}"
    yield ""
    for name, value in results["machine"].items():
        yield f"- {name}: {value}"
    yield ""
    yield "## Ratios"
    yield ""
    yield "| ratio | must | aim | measured | reached |"
    yield "|---|---|---|---|---|"
    for each in ratios:
        sign = "at most " if each["at_most"] else ""
        yield f"| {each['name']} | {sign}{each['must']} | {sign}{each['aim']} | {each['measured']:.2f} | {each['verdict']} |"
    yield from _throughput(results.get("throughput", []))
    yield from _latency(results.get("latency", []))
    yield from _overload(results.get("overload", []))
    yield from _switches(results.get("switches", []))
    if "workers" in results:
        yield from _workers(results["workers"])
    if "peers" in results:
        yield from _peers(results["peers"])


def _throughput(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield "## Candidates a second, one core (thousands; median of the repeats, range in brackets)"
    yield ""
    yield f"| network | N | {' | '.join(_COLUMNS)} | rewritten over HTTP / bare textbook |"
    yield "|---|---|" + "---|" * (len(_COLUMNS) + 1)
    for row in rows:
        cells = [_cell(row["candidates_per_s"][column]) for column in _COLUMNS]
        ratio = row["ratios"]["service rewritten / bare textbook"]
        ratio_text = f"{ratio['median']:.2f} [{ratio['min']:.2f}, {ratio['max']:.2f}]"
        yield f"| {row['model']} | {row['rows']} | {' | '.join(cells)} | {ratio_text} |"
    yield ""
    yield f"The generator used at most {max(row['generator_busy_max'] for row in rows):.0%} of its core."


def _cell(series: Mapping[str, float]) -> str:
    return f"{series['median'] / 1e3:.0f} [{series['min'] / 1e3:.0f}, {series['max'] / 1e3:.0f}]"


def _latency(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield "## Latency at 70 % of capacity, Poisson arrivals (ms from the moment a request was due; median of three runs)"
    yield ""
    yield "| network | N | requests/s | p50 | p99 | p99.9 | p99 / p50 |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        p50, p99, p999 = (median(run[name] for run in row["runs"]) for name in ("p50_ms", "p99_ms", "p999_ms"))
        spread = median(run["p99_ms"] / run["p50_ms"] for run in row["runs"])
        # Of fewer answers the 99.9th percentile is hardly more than the slowest.
        tail = f"{p999:.2f}" if min(run["answers"] for run in row["runs"]) >= _FEWEST_FOR_P999 else f"({p999:.2f})"
        figures = f"{row['offered_per_s']:.0f} | {p50:.2f} | {p99:.2f} | {tail} | {spread:.1f}"
        yield f"| {row['model']} | {row['rows']} | {figures} |"
    yield ""
    yield f"p99.9 in brackets: from fewer than {_FEWEST_FOR_P999:,} answers a run."


def _overload(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield "## Overload: good answers (whole, within 50 ms of being due) a second; medians, range in brackets"
    yield ""
    yield "| network | N | load / capacity | good/s | refused | p50 ms | p99 ms | generator's core |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        latency = f"{row['p50_ms']:.1f} | {row['p99_ms']:.1f}"
        good = f"{row['good_per_s']:.0f} [{row['good_min']:.0f}, {row['good_max']:.0f}]"
        figures = f"{good} | {row['refused']} | {latency} | {row['generator_busy']:.0%}"
        yield f"| {row['model']} | {row['rows']} | {row['factor']:g} | {figures} |"


def _switches(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield "## Experiments, metrics and exposures on and off (candidates/s, thousands)"
    yield ""
    yield "| N | on | off | on / off |"
    yield "|---|---|---|---|"
    for row in rows:
        ratio = row["ratio"]
        spread = f"{ratio['median']:.3f} [{ratio['min']:.3f}, {ratio['max']:.3f}]"
        yield f"| {row['rows']} | {_cell(row['on'])} | {_cell(row['off'])} | {spread} |"


def _workers(row: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## Workers (N={row['rows']})"
    yield ""
    yield "| workers | requests/s | cores that they used | generator's | store's |"
    yield "|---|---|---|---|---|"
    for name in ("one", "two"):
        per_s, *shares = (median(run[key] for run in row[name]) for key in ("per_s", "cores", "generator", "store"))
        yield f"| {name} | {per_s:.0f} | {' | '.join(f'{share:.2f}' for share in shares)} |"


def _peers(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield ""
    yield "## Other servers: same textbook graph, features, store and load (candidates/s, thousands)"
    yield ""
    yield "| server | N | theirs | ours, same graph | ours, rewritten | same graph / theirs | rewritten / theirs |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        cells = [_cell(row[name]) for name in ("theirs", "ours_same_graph", "ours")]
        ratios = [f"{row[name]['median']:.1f} [{row[name]['min']:.1f}, {row[name]['max']:.1f}]" for name in _PEER_RATIOS]
        yield f"| {row['peer']} | {row['rows']} | {' | '.join([*cells, *ratios])} |"
