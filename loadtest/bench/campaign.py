"""The measurements. Every repeat visits all contenders in turn, so that a slow minute of the machine hits them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from loadtest.bench.bare import BareTask
from loadtest.bench.bodies import Bodies
from loadtest.bench.stage import COLLAPSED, BareLoop, Service, Stage, Variant
from loadtest.bench.traffic import WARMUP_S, Traffic, TrafficPlan
from loadtest.chaos.service_process import free_port
from loadtest.cores import processor_seconds
from loadtest.peers.check import check_scores
from loadtest.peers.start import PEERS, is_installed, running_peer

MODELS = ("deepfm", "din")
ROWS = (50, 200, 500, 2_000)
OVERLOADS = (1.0, 2.0, 3.0, 4.0, 5.0)
_ON = {"RANKLINE_EXPOSURES__DIRECTORY": "{home}/exposures"}
_OFF = {"RANKLINE_METRICS": "false"}
_PATIENCE_MS = 30_000


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often: ``seconds`` of each closed-loop figure, ``latency_s`` of each open-loop one."""

    repeats: int = 3
    seconds: float = 2.5
    bare_s: float = 0.5
    latency_s: float = 5.0
    overload_s: float = 3.0
    overload_repeats: int = 2
    connections: int = 16
    overload_connections: int = 256
    overload_rows: tuple[int, ...] = (200, 2_000)
    within_ms: float = 50.0


@dataclass(slots=True)
class Series:
    """One figure's repeats."""

    values: list[float] = field(default_factory=list)

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    def to_json(self) -> dict[str, Any]:
        """Median, smallest, largest and every value."""
        return {"median": self.middle, "min": min(self.values), "max": max(self.values), "values": self.values}


class Campaign:
    """All measurements on one stage; each method gives plain data for the report."""

    def __init__(self, stage: Stage, effort: Effort) -> None:
        self.stage = stage
        self.effort = effort

    def throughput(self) -> list[dict[str, Any]]:
        """Candidates a second on one core: bare and through HTTP, on the textbook graph and on the rewritten one."""
        cells: dict[tuple[str, int, str], Series] = {}
        busy: list[float] = []
        with self._services(self._forms()) as services, BareLoop(self.stage.layout) as bare:
            for _ in range(self.effort.repeats):
                for model in MODELS:
                    for rows in ROWS:
                        figures = {**self._bare(bare, model, rows), **self._served(services, model, rows, busy)}
                        for column, value in figures.items():
                            cells.setdefault((model, rows, column), Series()).values.append(value)
        return [_throughput_row(cells, model, rows, max(busy)) for model in MODELS for rows in ROWS]

    def latency(self, peaks: Mapping[tuple[str, int], float]) -> list[dict[str, Any]]:
        """Latency under Poisson arrivals at 70 % of each own capacity (``peaks``: answers a second)."""
        rows_of = []
        with self._services([each for each in self._forms() if each.name.endswith("rewritten")]) as services:
            for (model, rows), peak in peaks.items():
                service = services[f"{model}-rewritten"]
                runs = [self._poisson(service, rows, 0.7 * peak, seed) for seed in range(1, 4)]
                rows_of.append(
                    {"model": model, "rows": rows, "offered_per_s": 0.7 * peak, "runs": [_traffic(run) for run in runs]}
                )
        return rows_of

    def overload(self, model: str = "deepfm") -> list[dict[str, Any]]:
        """Good answers a second at 1 to 5 times the capacity, the loads in turns; median of the repeats."""
        rows_of = []
        with self._services([self._variant(model, "rewritten")]) as services:
            service = services[f"{model}-rewritten"]
            for rows in self.effort.overload_rows:
                peak = median(self._closed(service, rows).answers_per_s for _ in range(3))
                runs: dict[float, list[Traffic]] = {factor: [] for factor in OVERLOADS}
                for _ in range(self.effort.overload_repeats):
                    for factor, found in runs.items():
                        found.append(self._overloaded(service, rows, factor * peak))
                for factor, found in runs.items():
                    middle = sorted(found, key=lambda run: run.good_per_s)[len(found) // 2]
                    spread = {
                        "good_min": min(run.good_per_s for run in found),
                        "good_max": max(run.good_per_s for run in found),
                    }
                    rows_of.append(
                        {"model": model, "rows": rows, "factor": factor, "peak_per_s": peak, **_traffic(middle), **spread}
                    )
        return rows_of

    def switches(self, rows: Sequence[int] = (200, 500)) -> list[dict[str, Any]]:
        """What experiments, metrics and exposures cost together: throughput with all of them over that with none."""
        off = Variant("deepfm-off", "deepfm", "plan-deepfm.yaml", _OFF)
        cells = self._compare([self._variant("deepfm", "rewritten"), off], rows)
        return [
            {"rows": count, "on": on.to_json(), "off": without.to_json(), "ratio": _ratio(on, without)}
            for count in rows
            for on, without in [(cells["deepfm-rewritten", count], cells["deepfm-off", count])]
        ]

    def peers(self, rows: Sequence[int] = (200,)) -> list[dict[str, Any]]:
        """Candidates a second of other servers that are installed, in turns with ours: same model, features, store, load.

        They run the textbook graph; ours is measured on it, too. Their scores are held to ours first.
        """
        found = []
        with self._services([self._variant("deepfm", form) for form in ("rewritten", "same-graph")]) as services:
            for name in filter(is_installed, PEERS):
                port = free_port()
                with running_peer(name, self.stage.root, self.stage.store.url, port, self.stage.layout.served) as pid:
                    check_scores(services["deepfm-rewritten"].port, port, self.stage.root)
                    peer = Service(Variant(name, "deepfm", "", {}), port, pid)
                    found += [self._beside(peer, services, count) for count in rows]
        return found

    def _beside(self, peer: Service, services: Mapping[str, Service], rows: int) -> dict[str, Any]:
        # Each at the number of connections that suits it best.
        best = max((16, 64), key=lambda connections: self._closed(peer, rows, connections).answers_per_s)
        their, own, same = Series(), Series(), Series()
        for _ in range(self.effort.repeats):
            their.values.append(rows * self._closed(peer, rows, best).answers_per_s)
            own.values.append(rows * self._closed(services["deepfm-rewritten"], rows).answers_per_s)
            same.values.append(rows * self._closed(services["deepfm-same-graph"], rows).answers_per_s)
        figures = {"theirs": their.to_json(), "ours": own.to_json(), "ours_same_graph": same.to_json()}
        ratios = {"ratio": _ratio(own, their), "same_graph_ratio": _ratio(same, their)}
        return {"peer": peer.variant.name, "rows": rows, "connections": best, **figures, **ratios}

    def workers(self, rows: int = 500) -> dict[str, Any]:
        """Throughput of one worker (core to itself) and of two (which share both cores with the load and the store)."""
        figures: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        variants = [replace(self._variant("deepfm", "rewritten"), name=f"workers-{count}", workers=count) for count in (1, 2)]
        with self._services(variants) as services:
            for _ in range(self.effort.repeats):
                for service in services.values():
                    before = [processor_seconds(pid) for pid in (service.pid, self.stage.store.pid)]
                    run = self._closed(service, rows, connections=2 * self.effort.connections)
                    after = [processor_seconds(pid) for pid in (service.pid, self.stage.store.pid)]
                    # The counters run over the warm-up, too.
                    used, store = ((b - a) / (run.seconds + WARMUP_S) for a, b in zip(before, after, strict=True))
                    shares = {"cores": used, "store": store, "generator": run.generator_busy}
                    figures[service.variant.workers].append({"per_s": run.answers_per_s, **shares})
        return {"rows": rows, "one": figures[1], "two": figures[2]}

    def _bare(self, bare: BareLoop, model: str, rows: int) -> dict[str, float]:
        version = self.stage.version(model)
        seconds = {
            column: bare.seconds_per_run(BareTask(version, form, rows, self.effort.bare_s))
            for column, form in (("bare textbook", "plain"), ("bare rewritten", "one_user"))
        }
        return {column: rows / each for column, each in seconds.items()}

    def _served(self, services: Mapping[str, Service], model: str, rows: int, busy: list[float]) -> dict[str, float]:
        figures = {}
        for column in ("same graph", "rewritten"):
            run = self._closed(services[f"{model}-{column.replace(' ', '-')}"], rows)
            figures[f"service {column}"] = rows * run.answers_per_s
            busy.append(run.generator_busy)
        return figures

    def _compare(self, variants: Sequence[Variant], rows: Sequence[int]) -> dict[tuple[str, int], Series]:
        cells: dict[tuple[str, int], Series] = {}
        with self._services(variants) as services:
            for repeat in range(2 * self.effort.repeats):
                turn = list(services.items())
                for name, service in turn if repeat % 2 else reversed(turn):
                    for count in rows:
                        series = cells.setdefault((name, count), Series())
                        series.values.append(count * self._closed(service, count).answers_per_s)
        return cells

    def _closed(self, service: Service, rows: int, connections: int | None = None) -> Traffic:
        bodies = self._bodies(rows)
        return _sound(
            self.stage.load(TrafficPlan(service.port, bodies, connections or self.effort.connections, self.effort.seconds))
        )

    def _poisson(self, service: Service, rows: int, rate: float, seed: int) -> Traffic:
        plan = TrafficPlan(service.port, self._bodies(rows), 128, self.effort.latency_s, rate_per_s=rate, seed=seed)
        return _sound(self.stage.load(plan))

    def _overloaded(self, service: Service, rows: int, rate: float) -> Traffic:
        effort = self.effort
        bodies = self.stage.bodies(rows, timeout_ms=int(effort.within_ms))
        return self.stage.load(
            TrafficPlan(
                service.port,
                bodies,
                effort.overload_connections,
                effort.overload_s,
                rate_per_s=rate,
                within_ms=effort.within_ms,
            )
        )

    def _bodies(self, rows: int) -> Bodies:
        # Patient: a heavy network with many candidates must be measured, not refused.
        return self.stage.bodies(rows, timeout_ms=_PATIENCE_MS)

    def _forms(self) -> list[Variant]:
        return [self._variant(model, form) for model in MODELS for form in ("same-graph", "rewritten")]

    def _variant(self, model: str, form: str) -> Variant:
        settings = {**_ON, COLLAPSED: "true" if form == "rewritten" else "false"}
        return Variant(f"{model}-{form}", model, "plan-ab.yaml", settings)

    @contextmanager
    def _services(self, variants: Sequence[Variant]) -> Iterator[dict[str, Service]]:
        with ExitStack() as stack:
            yield {each.name: stack.enter_context(self.stage.service(each)) for each in variants}


class UnsoundRunError(Exception):
    """A run that has failures measures something else."""


def _sound(run: Traffic) -> Traffic:
    if run.failed or run.refused or not run.answers or run.whole < run.answers:
        what = f"{run.failed} requests failed, {run.refused} were refused, {run.answers - run.whole} of {run.answers} degraded"
        raise UnsoundRunError(what)
    return run


def _throughput_row(cells: Mapping[tuple[str, int, str], Series], model: str, rows: int, busy: float) -> dict[str, Any]:
    columns = {column: series for (name, count, column), series in cells.items() if (name, count) == (model, rows)}
    textbook, rewritten = columns["bare textbook"], columns["bare rewritten"]
    return {
        "model": model,
        "rows": rows,
        "candidates_per_s": {column: series.to_json() for column, series in columns.items()},
        "ratios": {
            "service rewritten / bare textbook": _ratio(columns["service rewritten"], textbook),
            "service same graph / bare textbook": _ratio(columns["service same graph"], textbook),
            "bare rewritten / bare textbook": _ratio(rewritten, textbook),
            "service rewritten / bare rewritten": _ratio(columns["service rewritten"], rewritten),
        },
        "generator_busy_max": busy,
    }


def _ratio(above: Series, below: Series) -> dict[str, float]:
    """The median of the repeats' own ratios, and their range: both sides of each were measured next to each other."""
    each = [a / b for a, b in zip(above.values, below.values, strict=True)]
    return {"median": median(each), "min": min(each), "max": max(each)}


def _traffic(run: Traffic) -> dict[str, float]:
    return {
        "answers": run.answers,
        "answers_per_s": run.answers_per_s,
        "good_per_s": run.good_per_s,
        "refused": run.refused,
        "failed": run.failed,
        "unsent": run.unsent,
        "p50_ms": run.p50_ms,
        "p99_ms": run.p99_ms,
        "p999_ms": run.p999_ms,
        "generator_busy": run.generator_busy,
    }
