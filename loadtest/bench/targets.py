"""The ratios that were to be reached, and whether they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

_PEERS = {"mosec": (1.8, 2.5), "litserve": (5.0, 8.0), "bentoml": (10.0, 15.0), "ray_serve": (10.0, 15.0)}


@dataclass(frozen=True, slots=True)
class Target:
    """One ratio: what it must be, what was aimed at, what it is. ``at_most``: smaller is better."""

    name: str
    must: float
    aim: float
    measured: float
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """aim, must or missed."""
        sign = -1 if self.at_most else 1
        if sign * self.measured >= sign * self.aim:
            return "aim"
        return "must" if sign * self.measured >= sign * self.must else "missed"


def targets(results: Mapping[str, Any]) -> Iterator[Target]:
    """Every ratio that the results can tell."""
    yield from _throughput(results.get("throughput", []))
    yield from _latency(results.get("latency", []))
    yield from _overload(results.get("overload", []))
    for row in results.get("switches", []):
        yield Target(f"experiments + metrics + exposure on / off, N={row['rows']}", 0.97, 0.99, row["ratio"]["median"])
    if "workers" in results:
        yield from _workers(results["workers"])
    for row in results.get("peers", []):
        if row["rows"] == 200:
            yield Target(f"against {row['peer']}, N=200", *_PEERS[row["peer"]], row["ratio"]["median"])


def _throughput(rows: list[dict[str, Any]]) -> Iterator[Target]:
    wanted = {("deepfm", 200): (0.9, 1.2), ("deepfm", 500): (1.2, 1.6), ("din", 200): (2.0, 3.0)}
    for row in rows:
        bounds = wanted.get((row["model"], row["rows"]))
        if bounds is not None:
            ratio = row["ratios"]["service rewritten / bare textbook"]["median"]
            yield Target(f"service rewritten / bare textbook, {row['model']}, N={row['rows']}", *bounds, ratio)
    for row in rows:
        if (row["model"], row["rows"]) == ("deepfm", 500):
            ratio = row["ratios"]["service same graph / bare textbook"]["median"]
            yield Target("service same graph / bare same graph, deepfm, N=500", 0.80, 0.90, ratio)


def _latency(rows: list[dict[str, Any]]) -> Iterator[Target]:
    for row in rows:
        ratio = median(run["p99_ms"] / run["p50_ms"] for run in row["runs"])
        yield Target(f"p99 / p50 at 70 % load, {row['model']}, N={row['rows']}", 4.3, 3.0, ratio, at_most=True)


def _overload(rows: list[dict[str, Any]]) -> Iterator[Target]:
    best: dict[int, float] = {}
    for row in rows:
        best[row["rows"]] = max(best.get(row["rows"], row["peak_per_s"]), row["good_per_s"])
    for row in rows:
        bounds = {2.0: (0.90, 0.95), 5.0: (0.80, 0.90)}.get(row["factor"])
        if bounds is not None:
            name = f"goodput at {row['factor']:g}x overload / peak, {row['model']}, N={row['rows']}"
            yield Target(name, *bounds, row["good_per_s"] / best[row["rows"]])


def _workers(row: Mapping[str, Any]) -> Iterator[Target]:
    """One worker has a core; two have two, less what generator and store take of them."""
    one, two = row["one"], row["two"]
    raw = [b["per_s"] / a["per_s"] for a, b in zip(one, two, strict=True)]
    fair = [ratio * 2 / (2 - each["generator"] - each["store"]) for ratio, each in zip(raw, two, strict=True)]
    yield Target("2 workers / 1 worker, by the cores left to them", 1.7, 1.9, median(fair))
    yield Target("2 workers / 1 worker, as it is", 1.7, 1.9, median(raw))
