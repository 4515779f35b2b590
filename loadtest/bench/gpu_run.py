"""``python -m loadtest.bench.gpu_run``: candidates a second on one GPU, bare and through HTTP; see ``make bench-gpu``.

Bare: the textbook graph on the CUDA provider, rows bound on the device, and from ready-made arrays of the host. Service:
several front-ends and one scorer process, binary body, closed loop, with the plain graph (only ids travel; every table is on
the device) and with the rewritten one (the item's part travels). Without CUDA it says so and is done.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from loadtest.bench.bare import feeds_of
from loadtest.bench.stage import Service, Stage, Variant
from loadtest.bench.traffic import Traffic, TrafficPlan
from loadtest.cores import Layout
from loadtest.machine import processor_name

MUST, AIM = 2e6, 10e6
BARE_ROWS = (200, 1_000, 5_000, 32_768)
SERVED_ROWS = (200, 1_000, 5_000)
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """``provider``: cpu rehearses the whole run without a GPU. ``generators``: processes that make the load."""

    provider: str
    front_ends: int
    generators: int
    connections: int
    seconds: float
    repeats: int


def main() -> int:
    """Measure, print and write ``gpu.json``."""
    arguments = _parse()
    if arguments.provider == "cuda" and (reason := _why_no_cuda()):
        print(f"no CUDA: {reason}. Nothing was measured.")  # noqa: T201 - the answer to the command
        return 0
    if not (arguments.world / "ids.json").exists():
        subprocess.run([sys.executable, "-m", "models", "bench-world", "--out", str(arguments.world)], check=True)
    plan, layout = _plan(arguments), _layout(arguments.generators)
    with tempfile.TemporaryDirectory(prefix="bench") as scratch, Stage(arguments.world, layout, Path(scratch)) as stage:
        results: dict[str, Any] = {
            "command": shlex.join(["python", "-m", "loadtest.bench.gpu_run", *sys.argv[1:]]),
            "provider": plan.provider,
            "machine": _machine(layout),
            "bare": _bare(stage.version("deepfm"), plan),
            "service": _served(stage, plan),
        }
    results["target"] = {"must": MUST, "aim": AIM, "best": max(row["candidates_per_s"]["median"] for row in results["service"])}
    results["finished_at"] = datetime.now(UTC).isoformat(timespec="minutes")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gpu.json").write_text(json.dumps(results, indent=2) + "\n")
    print(text_of(results))  # noqa: T201
    return 0


def _parse() -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench.gpu_run", description=__doc__)
    parser.add_argument("--world", type=Path, default=Path("var/bench"), help="made on demand")
    parser.add_argument("--out", type=Path, default=Path("docs/results/speed"))
    parser.add_argument("--provider", choices=sorted(_PROVIDERS), default="cuda", help="cpu: a rehearsal without a GPU")
    parser.add_argument("--front-ends", type=int, default=max(2, cores - 5))
    parser.add_argument("--generators", type=int, default=max(1, min(4, cores // 4)))
    parser.add_argument("--connections", type=int, default=32, help="of each generator")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="short runs: to see that it works")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace) -> GpuPlan:
    plan = GpuPlan(
        arguments.provider, arguments.front_ends, arguments.generators, arguments.connections, 3.0, arguments.repeats
    )
    return replace(plan, seconds=0.5, repeats=2) if arguments.quick else plan


def _layout(generators: int) -> Layout:
    """The last cores make the load; the service may use all, for a small machine has fewer cores than there are processes."""
    cores = sorted(os.sched_getaffinity(0))
    cut = max(1, len(cores) - generators)
    return Layout(frozenset(cores[:cut]), frozenset(cores[cut:] or cores))


def _why_no_cuda() -> str:
    """Why CUDA cannot be used; empty when it can."""
    available = onnxruntime.get_available_providers()
    if _PROVIDERS["cuda"] not in available:
        return f"this build of ONNX Runtime offers only {', '.join(available)} (onnxruntime-gpu has CUDA)"
    try:
        onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(1, np.float32), "cuda", 0)
    except Exception as error:  # the library's exceptions share no base class
        return f"no device answers: {str(error)[:200]}"
    return ""


def _bare(version: str, plan: GpuPlan) -> list[dict[str, Any]]:
    rows_of = []
    for rows in BARE_ROWS:
        runs = {"arrays of the host": _host_run(version, rows, plan), "bound on the device": _bound_run(version, rows, plan)}
        for name, run in runs.items():
            series = _series([rows / _seconds_per_call(run, plan.seconds / 3) for _ in range(plan.repeats)])
            rows_of.append({"rows": rows, "inputs": name, "candidates_per_s": series})
    return rows_of


def _session(version: str, plan: GpuPlan) -> onnxruntime.InferenceSession:
    options = {"use_tf32": "0"} if plan.provider == "cuda" else {}
    return onnxruntime.InferenceSession(str(Path(version) / "model.onnx"), providers=[(_PROVIDERS[plan.provider], options)])


def _host_run(version: str, rows: int, plan: GpuPlan) -> Callable[[], Any]:
    session, feeds = _session(version, plan), feeds_of(version, "plain", rows)
    return lambda: session.run(None, feeds)


def _bound_run(version: str, rows: int, plan: GpuPlan) -> Callable[[], Any]:
    session = _session(version, plan)
    binding = session.io_binding()
    for name, array in feeds_of(version, "plain", rows).items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, plan.provider, 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, plan.provider)
    return lambda: (session.run_with_iobinding(binding), binding.synchronize_outputs())


def _seconds_per_call(run: Callable[[], Any], seconds: float) -> float:
    for _ in range(3):
        run()
    started, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds or calls < 3:
        run()
        calls += 1
    return passed / calls


def _served(stage: Stage, plan: GpuPlan) -> list[dict[str, Any]]:
    rows_of = []
    for form, collapsed in (("plain", "false"), ("rewritten", "true")):
        settings = {
            "RANKLINE_MODELS__SCORER": "process",
            "RANKLINE_MODELS__PROVIDER": plan.provider,
            "RANKLINE_MODELS__COLLAPSED": collapsed,
            "RANKLINE_MODELS__MAX_BATCH_ROWS": "32768",
            "RANKLINE_MODELS__MAX_QUEUE_ROWS": "1000000",
            "RANKLINE_LIMITS__DEFAULT_TIMEOUT_MS": "10000",
        }
        with stage.service(Variant(f"gpu-{form}", "deepfm", "plan-deepfm.yaml", settings, plan.front_ends)) as service:
            for rows in SERVED_ROWS:
                runs = [_load(stage, service, rows, plan) for _ in range(plan.repeats)]
                rows_of.append({"rows": rows, "form": form, **_figures(rows, runs)})
    return rows_of


def _load(stage: Stage, service: Service, rows: int, plan: GpuPlan) -> list[Traffic]:
    """All generators at once."""
    bodies = replace(stage.bodies(rows), binary=True)
    plans = [
        TrafficPlan(service.port, replace(bodies, seed=seed), plan.connections, plan.seconds, seed=seed)
        for seed in range(1, plan.generators + 1)
    ]
    with ThreadPoolExecutor(plan.generators) as pool:
        return list(pool.map(stage.load, plans))


def _figures(rows: int, runs: Sequence[Sequence[Traffic]]) -> dict[str, Any]:
    each = [traffic for run in runs for traffic in run]
    return {
        "candidates_per_s": _series([rows * sum(traffic.answers_per_s for traffic in run) for run in runs]),
        "p50_ms": median(traffic.p50_ms for traffic in each),
        "p99_ms": median(traffic.p99_ms for traffic in each),
        "refused": sum(traffic.refused for traffic in each),
        "failed": sum(traffic.failed for traffic in each),
        "generator_busy_max": max(traffic.generator_busy for traffic in each),
    }


def _series(values: list[float]) -> dict[str, Any]:
    return {"median": median(values), "min": min(values), "max": max(values), "values": values}


def _machine(layout: Layout) -> dict[str, Any]:
    return {
        "processor": processor_name(),
        "cores": len(layout.both),
        "load on cores": sorted(layout.load),
        "gpu": _gpu_name(),
        "onnxruntime": onnxruntime.__version__,
        "python": sys.version.split()[0],
    }


def _gpu_name() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or None


def text_of(results: dict[str, Any]) -> str:
    """The results as lines to read, the verdict last."""
    lines = [f"{results['machine']['gpu'] or results['provider']}: candidates a second, median (range)"]
    for row in results["bare"]:
        lines.append(f"bare, {row['inputs']}, {row['rows']} rows: {_rate(row)}")
    for row in results["service"]:
        times = f"p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms, refused {row['refused']}, failed {row['failed']}"
        busy = f"generator {row['generator_busy_max']:.0%} busy"
        lines.append(f"service, {row['form']} graph, {row['rows']} candidates: {_rate(row)}; {times}, {busy}")
    if results["provider"] != "cuda":
        return "\n".join([*lines, "a rehearsal without a GPU: these figures say nothing about one"])
    target = results["target"]
    verdict = "aim" if target["best"] >= AIM else "must" if target["best"] >= MUST else "missed"
    lines.append(f"best {target['best'] / 1e6:.2f} M (must {MUST / 1e6:g} M, aim {AIM / 1e6:g} M): {verdict}")
    return "\n".join(lines)


def _rate(row: dict[str, Any]) -> str:
    series = row["candidates_per_s"]
    return f"{series['median'] / 1e6:.3f} M ({series['min'] / 1e6:.3f}-{series['max'] / 1e6:.3f})"


if __name__ == "__main__":
    sys.exit(main())
