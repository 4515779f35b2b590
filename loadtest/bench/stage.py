"""What the benchmark runs against: the bench world, a store on the load's core, services on the measured core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from demo.server import Server
from loadtest.bench.bare import BareTask
from loadtest.bench.bodies import Bodies
from loadtest.bench.traffic import Traffic, TrafficPlan
from loadtest.chaos.service_process import free_port
from loadtest.chaos.store_server import StoreServer
from loadtest.cores import Layout, pinned

CONTEXT = json.dumps({"context": {"hour": "hour-12", "device": "device-0"}})


@dataclass(frozen=True, slots=True)
class Variant:
    """One configuration of the service: ``plan`` is the plan's file in the world, ``settings`` go on top."""

    name: str
    model: str
    plan: str
    settings: Mapping[str, str]
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Service:
    """A running variant."""

    variant: Variant
    port: int
    pid: int


COLLAPSED = "RANKLINE_MODELS__COLLAPSED"


class WorldOutdatedError(Exception):
    """The world's models are not what is to be measured."""


def is_collapsed(version: str) -> bool:
    """Whether a published version has forms beside its plain graph."""
    manifest = json.loads((Path(version) / "manifest.json").read_text())
    return bool(manifest.get("collapsed"))


def newest_version(world: Path, model: str) -> str:
    """The directory of a model's newest version in a world."""
    versions = [path for path in (world / "models" / model).iterdir() if path.name.isdigit()]
    return str(max(versions, key=lambda path: int(path.name)))


class Stage:
    """The world at ``root`` (``python -m models bench-world``) with its store filled; services are started on demand."""

    def __init__(self, root: Path, layout: Layout, scratch: Path) -> None:
        self.root = root
        self.layout = layout
        self._scratch = scratch
        self._stack = ExitStack()
        self.store = StoreServer(scratch / "store")

    def __enter__(self) -> Self:
        with pinned(self.layout.load):
            self._stack.enter_context(self.store)
        command = [sys.executable, "-m", "feature_store", "materialize", str(self.root / "views.yaml")]
        subprocess.run([*command, "--redis", self.store.url], check=True, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def version(self, model: str) -> str:
        """The directory of a model's newest version."""
        return newest_version(self.root, model)

    @contextmanager
    def service(self, variant: Variant) -> Iterator[Service]:
        """The variant, ready."""
        if variant.settings.get(COLLAPSED) == "true" and not is_collapsed(self.version(variant.model)):
            raise WorldOutdatedError(f"{self.version(variant.model)} has no collapsed forms: make the world anew")
        home = Path(mkdtemp(prefix=variant.name, dir=self._scratch))
        plan = home / "plan.yaml"
        plan.write_text((self.root / variant.plan).read_text().replace("deepfm@", f"{variant.model}@"))
        settings = {
            "RANKLINE_VIEWS": str(self.root / "views.yaml"),
            "RANKLINE_MODELS__REPOSITORY": str(self.root / "models"),
            "RANKLINE_STORE__URL": self.store.url,
            "RANKLINE_PLAN__PATH": str(plan),
            "RANKLINE_PLAN__STATE_DIRECTORY": str(home / "state"),
            "RANKLINE_EVENTS__SPOOL_DIRECTORY": str(home / "spool"),
            "RANKLINE_LIMITS__MAX_TIMEOUT_MS": "60000",
            # The line is bounded by the deadlines alone: 2,000 candidates a request would fill the default one.
            "RANKLINE_MODELS__MAX_QUEUE_ROWS": "1000000",
            **{name: value.format(home=home) for name, value in variant.settings.items()},
        }
        port, cores = free_port(), self.layout.both if variant.workers > 1 else self.layout.served
        command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--workers", str(variant.workers)]
        with (home / "log").open("wb") as log, pinned(cores):
            process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True)
        server = Server(process, port)
        try:
            server.wait_until_ready()
            yield Service(variant, port, process.pid)
        finally:
            server.stop()

    def bodies(self, candidates: int, *, timeout_ms: int | None = None) -> Bodies:
        """Requests of the world's users and items."""
        return Bodies(str(self.root / "ids.json"), candidates, fields=CONTEXT, timeout_ms=timeout_ms)

    def load(self, plan: TrafficPlan) -> Traffic:
        """Make the load on its core and wait for it."""
        command = [sys.executable, "-m", "loadtest.bench.traffic"]
        with pinned(self.layout.load):
            done = subprocess.run(command, input=json.dumps(asdict(plan)).encode(), stdout=subprocess.PIPE, check=True)
        return Traffic(**json.loads(done.stdout))


class BareLoop:
    """The bare loop as a process on the measured core, kept for many tasks."""

    def __init__(self, layout: Layout) -> None:
        with pinned(layout.served):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loadtest.bench.bare"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )

    def seconds_per_run(self, task: BareTask) -> float:
        """Run the task."""
        line: dict[str, Any] = asdict(task)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
