"""``python -m loadtest.bench``: the whole benchmark, or some of its sections; see ``make bench``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from loadtest.bench.campaign import MODELS, Campaign, Effort
from loadtest.bench.report import write_report
from loadtest.bench.stage import Stage, is_collapsed, newest_version
from loadtest.cores import Layout, siblings
from loadtest.machine import processor_name

SECTIONS = ("throughput", "latency", "overload", "switches", "workers")
_ON_DEMAND = ("peers",)
_PACKAGES = ("onnxruntime", "numpy", "fastapi", "uvicorn", "uvloop", "httptools", "redis", "hiredis", "msgspec", "pydantic")


def main() -> int:
    """Run the sections and write the report."""
    arguments = _parse()
    world = arguments.world
    if not _is_current(world):
        shutil.rmtree(world, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "models", "bench-world", "--out", str(world)], check=True)
    results = json.loads((arguments.out / "bench.json").read_text()) if arguments.keep else {}
    layout = Layout.of_this_machine()
    results["machine"] = _machine(layout)
    with tempfile.TemporaryDirectory(prefix="bench") as scratch, Stage(world, layout, Path(scratch)) as stage:
        _measure(Campaign(stage, _effort(arguments)), arguments.sections, results, arguments.out)
    print((arguments.out / "bench.md").read_text())
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    parser.add_argument("sections", nargs="*", default=SECTIONS, help=f"of {', '.join(SECTIONS)} (all by default), peers")
    parser.add_argument("--world", type=Path, default=Path("var/bench"), help="made on demand")
    parser.add_argument("--out", type=Path, default=Path("docs/results/speed"))
    parser.add_argument("--repeats", type=int, default=Effort().repeats)
    parser.add_argument("--quick", action="store_true", help="every run a fraction of its time: to see that it works")
    parser.add_argument("--keep", action="store_true", help="keep the other sections of an earlier report")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - {*SECTIONS, *_ON_DEMAND}:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if "latency" in arguments.sections and not ("throughput" in arguments.sections or arguments.keep):
        parser.error("latency is measured at a share of the capacity: ask for throughput, too, or --keep an earlier one")
    return arguments


def _is_current(world: Path) -> bool:
    """Whether the world is whole and its models are published in all forms."""
    return (world / "ids.json").exists() and all(is_collapsed(newest_version(world, model)) for model in MODELS)


def _effort(arguments: argparse.Namespace) -> Effort:
    effort = replace(Effort(), repeats=arguments.repeats)
    if arguments.quick:
        effort = replace(effort, repeats=2, seconds=0.5, bare_s=0.2, latency_s=2.0, overload_s=1.0, overload_repeats=1)
    return effort


def _measure(campaign: Campaign, sections: list[str], results: dict[str, Any], out: Path) -> None:
    """Measure the sections; the report is written after each, so that what was measured is not lost with the next."""
    results["effort"] = asdict(campaign.effort)
    measures: dict[str, Callable[[], Any]] = {
        "throughput": campaign.throughput,
        "latency": lambda: campaign.latency(_peaks(results)),
        "overload": campaign.overload,
        "switches": campaign.switches,
        "workers": campaign.workers,
        "peers": campaign.peers,
    }
    for section in sections:
        print(f"{datetime.now(UTC):%H:%M:%S} {section}", file=sys.stderr, flush=True)
        before = round(os.getloadavg()[0], 2)
        results[section] = measures[section]()
        results.setdefault("runs", {})[section] = {
            "command": shlex.join(["python", "-m", "loadtest.bench", *sys.argv[1:]]),
            "finished_at": datetime.now(UTC).isoformat(timespec="minutes"),
            "load_average": before,
        }
        write_report(results, out)


def _peaks(results: dict[str, Any]) -> dict[tuple[str, int], float]:
    """Answers a second at capacity, by model and rows, from the throughput section."""
    return {
        (row["model"], row["rows"]): row["candidates_per_s"]["service rewritten"]["median"] / row["rows"]
        for row in results["throughput"]
    }


def _machine(layout: Layout) -> dict[str, Any]:
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "measured on core": sorted(layout.served),
        "load and store on core": sorted(layout.load),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "threads of the measured core": sorted(siblings(min(layout.served))),
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in _PACKAGES},
        "seed": 1,
    }


if __name__ == "__main__":
    sys.exit(main())
