"""The benchmark's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_COLOURS = {
    "bare textbook": "#999999",
    "bare rewritten": "#555555",
    "service same graph": "#88ccee",
    "service rewritten": "#4477aa",
}


def draw_throughput(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Candidates a second by network and rows, one bar a column."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    figure.suptitle("Candidates a second on one core: bare ONNX Runtime and the whole service over HTTP")
    for place, model in enumerate(models):
        axes = figure.add_subplot(1, len(models), place + 1)
        _bars(axes, [row for row in rows if row["model"] == model])
        axes.set_title({"deepfm": "DeepFM, 16 fields x 16, [256, 128]", "din": "DIN, T=50"}.get(model, model))
    figure.savefig(path, dpi=110)


def _bars(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    width = 0.8 / len(_COLOURS)
    for place, (column, colour) in enumerate(_COLOURS.items()):
        series = [row["candidates_per_s"][column] for row in rows]
        middles = [each["median"] / 1e3 for each in series]
        below = [(each["median"] - each["min"]) / 1e3 for each in series]
        above = [(each["max"] - each["median"]) / 1e3 for each in series]
        places = [number + place * width for number in range(len(rows))]
        error = {"elinewidth": 0.8, "capsize": 2}
        axes.bar(places, middles, width, color=colour, label=column, yerr=[below, above], error_kw=error)
    axes.set_xticks([number + 0.3 for number in range(len(rows))], [f"N={row['rows']}" for row in rows])
    axes.set_ylabel("thousand candidates/s")
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_latency(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """p50, p99 and p99.9 at 70 % load."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    labels = [f"{row['model']}\nN={row['rows']}" for row in rows]
    for name, colour in (("p999_ms", "#cc3311"), ("p99_ms", "#ee7733"), ("p50_ms", "#4477aa")):
        middles = [median(run[name] for run in row["runs"]) for row in rows]
        axes.plot(labels, middles, "o", color=colour, label={"p999_ms": "p99.9", "p99_ms": "p99", "p50_ms": "p50"}[name])
    axes.set_yscale("log")
    axes.set_ylabel("ms from the moment the request was due")
    axes.set_title("Latency at 70 % of capacity, Poisson arrivals, one worker on one core")
    axes.grid(axis="y", which="both", color="#eeeeee")
    axes.legend()
    figure.savefig(path, dpi=110)


def draw_overload(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Good answers over the best, by offered load."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for count in dict.fromkeys(row["rows"] for row in rows):
        of_count = [row for row in rows if row["rows"] == count]
        best = max(of_count[0]["peak_per_s"], *(row["good_per_s"] for row in of_count))
        axes.plot([row["factor"] for row in of_count], [row["good_per_s"] / best for row in of_count], "o-", label=f"N={count}")
    axes.axhline(0.8, color="#cccccc", linewidth=0.8)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("offered load / capacity")
    axes.set_ylabel("good answers / best")
    axes.set_title("Goodput under overload (whole answers within 50 ms)")
    axes.legend()
    figure.savefig(path, dpi=110)
