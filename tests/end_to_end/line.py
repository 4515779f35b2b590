"""A small line built once a session: made data, both networks trained for two epochs, exported, published."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from demo.server import Server, running_server
from demo.steps import Workspace, run_command, train

ADMIN_TOKEN = "a-token-for-tests-only"
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

RECIPES = {
    "deepfm": {"embedding_size": 8, "hidden": [16]},
    "din": {"embedding_size": 8, "hidden": [16], "attention_hidden": [16]},
}

PLAN = """\
version: 1
defaults: {{model: din@latest}}
layers:
  - name: ranking
    owns: [model]
    experiments:
      - name: din-vs-deepfm
        traffic: [0, 10000]
        arms:
          - {{name: deepfm, buckets: [0, {edge}], params: {{model: deepfm@latest}}}}
          - {{name: din, buckets: [{edge}, 10000], params: {{model: din@latest}}}}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """Where the line's things are, and ids that are in the store."""

    workspace: Workspace
    views: Path
    users: list[str]
    items: list[str]


def build_line(root: Path) -> Line:
    """Simulate, train, export, materialize, through the commands that a user types."""
    workspace = Workspace(root)
    run_command(["-m", "models", "simulate", str(workspace.data), "--users", "80", "--items", "60", "--requests", "600"])
    views = workspace.data / "views.yaml"
    for network, options in RECIPES.items():
        recipe = root / f"{network}.yaml"
        recipe.write_text(
            json.dumps({"network": network, "epochs": 2, "batch_rows": 256, "options": options}), encoding="utf-8"
        )
        run = train(workspace, views, network, seed=1, recipe=recipe)
        run_command(["-m", "models", "export", str(run), "--repository", str(workspace.models)])
    run_command(["-m", "feature_store", "materialize", str(views), "--embedded", str(workspace.store)])
    users = pl.read_parquet(workspace.data / "users.parquet")["user_id"].cast(pl.String).to_list()
    items = pl.read_parquet(workspace.data / "items.parquet")["item_id"].cast(pl.String).to_list()
    return Line(workspace, views, users, items)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    line: Line, directory: Path, settings: Mapping[str, str | None] | None = None, workers: int = 1
) -> Iterator[Server]:
    """A service on the line's models, with a plan and state of its own in ``directory``; a setting of None is left unset."""
    plan = directory / "plan.yaml"
    if not plan.exists():
        plan.write_text(PLAN.format(edge=5000), encoding="utf-8")
    own = {
        "RANKLINE_PLAN__PATH": str(plan),
        "RANKLINE_PLAN__STATE_DIRECTORY": str(directory / "state"),
        "RANKLINE_PLAN__POLL_S": "0.1",
        "RANKLINE_EVENTS__SPOOL_DIRECTORY": str(directory / "spool"),
        "RANKLINE_ADMIN_TOKEN": ADMIN_TOKEN,
        # Two cores and a whole test suite: what is tested is not how fast a busy machine is.
        "RANKLINE_LIMITS__DEFAULT_TIMEOUT_MS": "10000",
        "RANKLINE_STORE__READ_TIMEOUT_MS": "1000",
        "RANKLINE_STORE__CONNECT_TIMEOUT_MS": "1000",
    }
    given = {name: value for name, value in {**own, **(settings or {})}.items() if value is not None}
    with running_server(line.workspace.environment(line.views, given), free_port(), workers) as server:
        yield server


def call(
    server: Server,
    method: str,
    path: str,
    body: bytes | Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any, http.client.HTTPMessage]:
    """Status, parsed body and headers of any answer, errors included."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        content = json.dumps(body).encode() if isinstance(body, Mapping) else body
        sent = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, content, {**sent, **(headers or {})})
        response = connection.getresponse()
        answer = response.read()
        is_json = "json" in response.headers.get("content-type", "")
        return response.status, json.loads(answer) if is_json else answer, response.headers
    finally:
        connection.close()


def rank(server: Server, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The answer of a request that must succeed."""
    status, answer, _ = call(server, "POST", "/rank", body, headers)
    assert status == 200, answer
    content: dict[str, Any] = answer
    return content


def send_signal(server: Server, number: signal.Signals) -> None:
    os.kill(server.process.pid, number)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return once the condition holds; fail if it never does."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "did not happen in time"
        time.sleep(0.05)
