"""``python -m feature_store bench``: what reads and writes cost on this machine, as tables and as JSON.

It runs on an embedded server of its own, pinned to one core, and asks it from another; both are gone afterwards. Nothing else
should be busy: the load average stands in the report.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from feature_store.benchmarks.http_writes import HttpLoad, has_models, measure_http, running_service
from feature_store.benchmarks.layout import Layout, describe_machine, free_port, on_core
from feature_store.benchmarks.read_report import read_json, read_lines
from feature_store.benchmarks.reads import ReadPlan, measure_reads
from feature_store.benchmarks.report_text import write_report
from feature_store.benchmarks.write_report import HttpRates, write_json, write_lines
from feature_store.benchmarks.writes import WritePlan, measure_writes
from feature_store.embedded import EmbeddedStore
from feature_store.errors import FeatureStoreError
from feature_store.redis.plain_hashes import ServerGauge

PARTS = ("reads", "writes")
HTTP_LOADS = (HttpLoad(1, 1, 1_000), HttpLoad(16, 1, 300), HttpLoad(1, 100, 100), HttpLoad(4, 100, 50))
_QUICK_READS = ReadPlan(
    items=200,
    fields=4,
    counts=(10, 50),
    rounds=2,
    compared=50,
    views=(1, 2),
    view_fields=4,
    view_items=60,
    view_rounds=2,
    field_counts=(4, 8),
    used_fields=2,
    trip_items=3,
)
_QUICK_WRITES = WritePlan(seconds=0.05, batches=(1, 4), submissions=((1, 1), (2, 3)))
_QUICK_HTTP = (HttpLoad(2, 3, 2),)

ResultT = TypeVar("ResultT")
Report = tuple[list[str], dict[str, Any]]
"""Lines of Markdown, and the same as JSON."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[], metavar="PART", help="reads, writes (both)")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results/fresh-features"), metavar="DIR", help="for the reports (%(default)s)"
    )
    parser.add_argument(
        "--workspace",
        type=Path,
        default=Path("var/simulated"),
        metavar="DIR",
        help="published model and views for POST /events, as make demo leaves them; without them it is left out (%(default)s)",
    )
    parser.add_argument(
        "--scratch", type=Path, default=Path("var"), metavar="DIR", help="where spools are written and synced (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, measures nothing")


def run(options: argparse.Namespace) -> int:
    """Write the reports and print them; 1 with the reason on stderr."""
    options.scratch.mkdir(parents=True, exist_ok=True)
    # SIGTERM as an exception: the server, the service and the scratch directory must not outlive this.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for part in options.parts or PARTS:
            lines, result = _on_own_server(part, Layout.here(), options)
            write_report(options.out, part, lines, result)
            print("\n".join(lines))
    except FeatureStoreError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _on_own_server(part: str, layout: Layout, options: argparse.Namespace) -> Report:
    """A server for each part: what reads left would lie in the way of writes."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.scratch) as folder:
        directory = Path(folder).resolve()
        store = EmbeddedStore(directory / "store")
        with on_core(layout.server_core):
            store.start()
        try:
            with on_core(layout.client_core):
                return _measure(part, store.url, directory, layout, options)
        finally:
            store.stop()


def _measure(part: str, url: str, directory: Path, layout: Layout, options: argparse.Namespace) -> Report:
    gauge = ServerGauge(url)
    try:
        machine = describe_machine(gauge.version(), layout)
        tcp_url = gauge.listen(free_port())
    finally:
        gauge.close()
    if part == "reads":
        reads = _QUICK_READS if options.quick else ReadPlan()
        times = _run(measure_reads(url, tcp_url, reads))
        return read_lines(machine, reads, times), read_json(machine, reads, times)
    writes = _QUICK_WRITES if options.quick else WritePlan()
    rates = _run(measure_writes(url, directory, writes))
    http = _http(url, directory, layout, options)
    return write_lines(machine, writes, rates, http), write_json(machine, writes, rates, http)


def _http(url: str, directory: Path, layout: Layout, options: argparse.Namespace) -> HttpRates | None:
    workspace = options.workspace.resolve()
    if not has_models(workspace):
        return None
    with running_service(workspace, url, directory, layout) as port:
        loads = _QUICK_HTTP if options.quick else HTTP_LOADS
        return [(load, _run(measure_http(port, url, load, f"http-{place}"))) for place, load in enumerate(loads)]


def _run(measuring: Coroutine[Any, Any, ResultT]) -> ResultT:
    """On the event loop that the service's server uses, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(measuring)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measuring)
