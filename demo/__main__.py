"""``python -m demo``: the whole line, from data to ``POST /rank``, with one command (``make demo``)."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from pathlib import Path

from demo.example import SmokeFailedError, check_answers, check_event, curl_of, example_requests, history_event, id_columns
from demo.quality import measure_quality
from demo.server import Server, ServerFailedError, running_server
from demo.steps import (
    NETWORKS,
    StepFailedError,
    Workspace,
    materialize,
    prepare_data,
    run_command,
    say,
    train_and_publish,
    write_plan,
)

SMOKE_PORT = 18_080
QUALITY_SEEDS = (1, 2, 3)


def main() -> int:
    """Run the line; the exit code is 0 if all of it worked."""
    arguments = _parse()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)  # whatever ends us ends what we started
    root = Path("var/smoke") if arguments.smoke else Path("var")
    if arguments.smoke:
        shutil.rmtree(root, ignore_errors=True)
    try:
        if arguments.quality:
            say("1. data: three tables and one YAML of feature views")
            print(measure_quality(*prepare_data(arguments.data, root), seeds=QUALITY_SEEDS))
            return 0
        workspace, views = build_line(arguments.data, root, arguments.seed)
        return _serve(arguments, workspace, views)
    except (StepFailedError, ServerFailedError, SmokeFailedError) as error:
        print(f"\nfailed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped")
        return 0


def _leave(*_: object) -> None:
    raise KeyboardInterrupt


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--data", help="a MovieLens folder or a feature-view YAML; made data by default")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=1)
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--smoke", action="store_true", help="start from nothing, check the answers, stop")
    task.add_argument("--skew", action="store_true", help="compare served scores with torch's on held-out rows, stop")
    task.add_argument("--skew-live", action="store_true", help="the same after live events, from their exported log, stop")
    task.add_argument("--quality", action="store_true", help="train every network over three seeds, print a table, stop")
    task.add_argument("--loadtest", action="store_true", help="put the service under load, write a report, stop")
    return parser.parse_args()


def build_line(source: str | None, root: Path, seed: int) -> tuple[Workspace, Path]:
    """Everything up to a servable state: tables, published models, features, plan."""
    started = time.monotonic()
    say("1. data: three tables and one YAML of feature views")
    workspace, views = prepare_data(source, root)
    for network in NETWORKS:
        say(f"2. {network}: train, export to ONNX, check parity, publish")
        train_and_publish(workspace, views, network, seed)
    say("3. features: users, items and histories into the store")
    materialize(workspace, views)
    write_plan(workspace)
    print(f"\nready to serve after {time.monotonic() - started:.0f} s")
    return workspace, views


def _serve(arguments: argparse.Namespace, workspace: Workspace, views: Path) -> int:
    if arguments.skew or arguments.skew_live:
        return _skew(workspace, views, arguments.port, "skew-live" if arguments.skew_live else "skew")
    port = SMOKE_PORT if arguments.smoke else arguments.port
    say(f"4. the service on 127.0.0.1:{port}")
    with running_server(workspace.environment(views), port) as server:
        if arguments.smoke:
            requests = example_requests(views, 20)
            check_answers(server, requests)
            check_event(server, views, requests[0])
            code = server.stop()
            print("\nsmoke test passed" if code == 0 else f"\nthe service ended with {code}")
            return code
        if arguments.loadtest:
            return _load(server, workspace, views)
        show_example(server, views)
        return server.process.wait()


def _skew(workspace: Workspace, views: Path, port: int, command: str) -> int:
    """Held-out rows, or made visits, through a service with a store of its own, since they change histories."""
    store, spool = workspace.root / f"{command}-store", workspace.root / f"{command}-spool"
    say("4. train = serve: what the service answers against what torch says")
    for left_over in (store, spool):
        shutil.rmtree(left_over, ignore_errors=True)
    run_command(["-m", "feature_store", "materialize", str(views), "--embedded", str(store)])
    settings = {"RANKLINE_STORE__DIRECTORY": str(store), "RANKLINE_EVENTS__SPOOL_DIRECTORY": str(spool)}
    environment = workspace.environment(views, settings)
    environment.pop("RANKLINE_STORE__URL", None)
    with running_server(environment, port) as server:
        where = ["--url", server.url, "--embedded", str(store)]
        what = ["--repository", str(workspace.models), "--runs", str(workspace.runs)]
        run_command(["-m", "models", command, str(views), *where, *what])
    return 0


def show_example(server: Server, views: Path) -> None:
    """Print a request to paste and its real answer."""
    (request,) = example_requests(views, 1, candidates=5)
    print(f"\nTry it in another terminal:\n\n{curl_of(server, request)}\n")
    print(json.dumps(server.rank(request), indent=2))
    event = history_event(views, request["user_id"], request["candidates"][0])
    if event is not None:
        print(f"\nTell it what happened, and ask again:\n\n{curl_of(server, event, '/events')}\n")
    print(f"Also: {server.url}/docs  {server.url}/metrics  {server.url}/health/ready\nCtrl-C stops everything.", flush=True)


def _load(server: Server, workspace: Workspace, views: Path) -> int:
    """Open-loop load from the tables' own users and items; the last interaction's context stands for all."""
    (request,) = example_requests(views, 1, candidates=1)
    sources = [f"{option}={source}" for option, source in zip(("--users", "--items"), id_columns(views), strict=True)]
    extra = ["--extra-fields", json.dumps({"context": request["context"]})] if "context" in request else []
    candidates = str(len(example_requests(views, 1, candidates=100)[0]["candidates"]))
    shape = ["--rate", "100", "--duration", "20s", "--warmup", "5s", "--candidates", candidates, "--top-k", "20"]
    run_command(["-m", "loadtest", "--url", server.url, "--out", str(workspace.root / "loadtest"), *sources, *shape, *extra])
    return 0


if __name__ == "__main__":
    sys.exit(main())
