"""Latency in one picture: over time, as a distribution with its tail, and by stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from loadtest.arrivals import Arrivals
from loadtest.measures import Distribution, measured_part
from loadtest.options import Schedule
from loadtest.result import RunResult

_OK, _FAILED, _STRONG, _MARK = "#4477aa", "#cc3311", "#222222", "#999999"
_MAX_DOTS = 20_000
_PERCENTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99.9"))


def save_plot(path: Path, arrivals: Arrivals, result: RunResult) -> None:
    """Draw the run into a PNG."""
    schedule, traffic = result.options.schedule, result.measures.traffic
    figure = Figure(figsize=(12, 8.5), layout="constrained")
    places = figure.subplot_mosaic([["over time", "over time"], ["tail", "stages"]])
    figure.suptitle(
        f"{result.verdict.word}: {schedule.rate_per_s}/s asked, {traffic.answers_per_s:.1f}/s answered,"
        f" {result.payloads.candidates_mean:.0f} candidates, errors {traffic.error_share:.2%}, dropped {traffic.dropped}",
        fontsize=13,
    )
    measured = measured_part(arrivals, schedule)
    _draw_over_time(places["over time"], measured, arrivals.start_us, schedule)
    _draw_tail(places["tail"], measured.filter(pl.col("status") == 200)["latency_ms"].to_numpy(), result.measures.ok_ms)
    _draw_stages(places["stages"], result.measures.inspection.stages_ms)
    figure.savefig(path, dpi=110)


def _draw_over_time(axes: Axes, measured: pl.DataFrame, start_us: float, schedule: Schedule) -> None:
    _draw_dots(axes, measured.filter(pl.col("status") == 200), start_us, "status 200", _OK)
    _draw_dots(axes, measured.filter(pl.col("status") != 200), start_us, "failed", _FAILED)
    _draw_p99_by_second(axes, measured, start_us)
    axes.set(xlabel="due, seconds after the start", ylabel="latency, ms")
    axes.set_title("Latency by the moment an arrival was due", loc="left")
    axes.set_xlim(schedule.first / schedule.rate_per_s, (schedule.first + schedule.count) / schedule.rate_per_s)
    _log_ms(axes, "y")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, markerscale=3)


def _draw_dots(axes: Axes, rows: pl.DataFrame, start_us: float, name: str, color: str) -> None:
    if rows.is_empty():
        return
    shown = rows.gather_every(-(-len(rows) // _MAX_DOTS))
    label = f"{name} ({len(rows)})" + (f", {len(shown)} shown" if len(shown) < len(rows) else "")
    seconds = (shown["due_us"].to_numpy() - start_us) / 1e6
    axes.plot(seconds, shown["latency_ms"].to_numpy(), ".", ms=4, alpha=0.5, color=color, label=label, rasterized=True)


def _draw_p99_by_second(axes: Axes, measured: pl.DataFrame, start_us: float) -> None:
    second = ((pl.col("due_us") - start_us) / 1e6).floor().alias("second")
    by_second = measured.group_by(second).agg(pl.col("latency_ms").quantile(0.99, "higher")).sort("second")
    if len(by_second) > 1:
        edges = [*by_second["second"], by_second["second"][-1] + 1]
        axes.stairs(by_second["latency_ms"], edges, baseline=None, color=_STRONG, lw=1.3, label="p99 of each second")


def _draw_tail(axes: Axes, latencies: np.ndarray, found: Distribution | None) -> None:
    axes.set_title("Share of answers (status 200) slower than x")
    if found is None:
        _say(axes, "no answer with status 200")
        return
    ordered = np.sort(latencies)
    # Between two answers, the share of those from the later one on.
    axes.step(ordered, np.arange(len(ordered), 0, -1) / len(ordered), where="pre", color=_OK)
    marks = (found.p50, found.p95, found.p99, found.p99_9)
    for (share, name), value in zip(_PERCENTILES, marks, strict=True):
        axes.plot([value], [1.0 - share], "o", ms=5, color=_STRONG)
        axes.annotate(
            f"{name} {_number(value)} ms", (value, 1.0 - share), xytext=(7, 4), textcoords="offset points", fontsize=9
        )
    axes.set_yscale("log")
    axes.set_ylim(min(0.5 / len(ordered), 5e-4), 1.3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share * 100:g} %"))
    axes.set_xlim(ordered[0] * 0.8, ordered[-1] * 4)
    axes.set_xlabel("latency, ms")
    _log_ms(axes, "x")


def _draw_stages(axes: Axes, stages: dict[str, Distribution]) -> None:
    axes.set_title("Time by stage (of the answers read)")
    if not stages:
        _say(axes, "the answers have no timings_ms")
        return
    places = np.arange(len(stages))
    for shift, name, color in ((-0.2, "p50", _OK), (0.2, "p99", _MARK)):
        values = [max(getattr(found, name), 1e-3) for found in stages.values()]
        bars = axes.barh(places + shift, values, height=0.38, color=color, label=name)
        axes.bar_label(bars, [_number(value) for value in values], padding=3, fontsize=8)
    axes.set_yticks(places, list(stages))
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    _log_ms(axes, "x")
    axes.set_xlim(right=axes.get_xlim()[1] * 2)
    axes.legend(loc="upper right", framealpha=0.9)


def _log_ms(axes: Axes, which: str) -> None:
    """A log axis with plain numbers; 2 and 5 are labelled too where few decades are shown."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    (axes.set_yscale if which == "y" else axes.set_xscale)("log")
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / max(low, 1e-9) < 500 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", alpha=0.3)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()
