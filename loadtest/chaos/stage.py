"""A place to break things in: a store, made users with histories of their own, and a service on a workspace's DIN.

The workspace is what ``make demo`` leaves (``var/simulated``); it is only read. Everything else lies in a temporary directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from loadtest.chaos.errors import StageFailedError
from loadtest.chaos.own_histories import OwnHistories
from loadtest.chaos.store_server import Persistence, StoreServer

_OTHER_ROWS = 2_000
PLAN = "version: 1\ndefaults: {model: din@latest}\n"
EVENT_TYPES = {
    "types": [{"name": "view", "sets": {"click": 0}, "example": True}, {"name": "click", "sets": {"click": 1}}],
    "time_unit": "s",
    "time_resolution": "us",
}
"""A click enters the history of made data, a view does not; both are counted and logged."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One scenario's directory. ``candidates`` are items that the workspace's models know."""

    workspace: Path
    directory: Path
    store: StoreServer
    candidates: list[str]
    history_length: int

    @property
    def views(self) -> Path:
        """The workspace's feature views, with the harness's events and tables."""
        return self.directory / "data" / "views.yaml"

    def environment(self, settings: Mapping[str, str] | None = None) -> dict[str, str]:
        """Settings of a service on this stage."""
        own = {
            "RANKLINE_MODELS__REPOSITORY": str(self.workspace / "models"),
            "RANKLINE_STORE__URL": self.store.url,
            "RANKLINE_PLAN__PATH": str(self.directory / "plan.yaml"),
            "RANKLINE_PLAN__STATE_DIRECTORY": str(self.directory / "state"),
            "RANKLINE_LOG_LEVEL": "error",
        }
        return {**os.environ, **own, **(settings or {})}

    def event_settings(self) -> dict[str, str]:
        """What makes the service take events, into a spool that outlives the process."""
        return {
            "RANKLINE_VIEWS": str(self.views),
            "RANKLINE_EVENTS__SPOOL_DIRECTORY": str(self.directory / "spool"),
        }

    def materialize(self, users: OwnHistories) -> None:
        """Write the users and their histories through the project's own command.

        Raises:
            StageFailedError: it failed.
        """
        _write_tables(self.workspace / "data", self.views, users)
        command = [sys.executable, "-m", "feature_store", "materialize", str(self.views), "--redis", self.store.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StageFailedError(f"materialize failed:\n{done.stderr[-2_000:]}")


@contextmanager
def staged(workspace: Path, persistence: Persistence = "snapshot") -> Iterator[Stage]:
    """A stage with a running, empty store.

    Raises:
        StageFailedError: the workspace lacks the published DIN or the made data, or the store does not start.
    """
    views_path = workspace / "data" / "views.yaml"
    if not views_path.is_file() or not (workspace / "models" / "din").is_dir():
        raise StageFailedError(
            f"{workspace} has no made data and published din: run make smoke or make demo, or give --workspace"
        )
    # Short: a Unix socket's path has little room.
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        views = yaml.safe_load(views_path.read_text(encoding="utf-8"))
        (directory / "data").mkdir()
        (directory / "data" / "views.yaml").write_text(yaml.safe_dump({**views, "events": EVENT_TYPES}), encoding="utf-8")
        (directory / "plan.yaml").write_text(PLAN, encoding="utf-8")
        items = pl.read_parquet(workspace / "data" / views["tables"]["items"])[views["item"]["key"]]
        with StoreServer(directory / "store", persistence) as store:
            length = int(views["history"]["length"])
            yield Stage(workspace.resolve(), directory, store, items.cast(pl.String).to_list()[:200], length)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write_tables(source: Path, views_path: Path, users: OwnHistories) -> None:
    """Tables in the shape of the workspace's: every made user with a known user's features, items and clicks of its own."""
    views = yaml.safe_load(views_path.read_text(encoding="utf-8"))
    names, user_key, item_key = views["tables"], views["user"]["key"], views["item"]["key"]
    known_users = pl.read_parquet(source / names["users"])
    known_items = pl.read_parquet(source / names["items"])
    known_rows = pl.read_parquet(source / names["interactions"])
    clicked = known_rows.filter(pl.col(views["history"]["where"]["column"]) == 1)
    events = [event for number in range(users.count) for event in users.events(number)]
    time_column = views["interactions"]["time"]
    folder = views_path.parent
    _with_keys(known_users, {user_key: users.ids}).write_parquet(folder / names["users"])
    _with_keys(known_items, {item_key: sorted({item for _, item, _ in events})}).write_parquet(folder / names["items"])
    keys: dict[str, list[Any]] = {
        user_key: [user for user, _, _ in events],
        item_key: [item for _, item, _ in events],
        time_column: [time for _, _, time in events],
    }
    own = _with_keys(clicked.head(1), keys)
    # A table must hold both values of every label: rows of a user whom nobody asks for.
    others = known_rows.head(_OTHER_ROWS).with_columns(pl.lit("chaos-nobody").alias(user_key))
    pl.concat([own, others], how="vertical_relaxed").write_parquet(folder / names["interactions"])


def _with_keys(frame: pl.DataFrame, keys: Mapping[str, list[Any]]) -> pl.DataFrame:
    """As many rows as there are keys, the other columns repeated from the frame's own rows."""
    count = len(next(iter(keys.values())))
    repeated = frame[[place % frame.height for place in range(count)]]
    return repeated.with_columns(pl.Series(name, values) for name, values in keys.items())
