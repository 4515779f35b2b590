"""Train = serve after live events, measured: made traffic through a running service, its log exported, its answers scored anew.

Users are ranked for, see what was ranked, click, and send their clicks late, twice or out of order, as clients do. Then the log
of these events becomes training tables, their rows are encoded and scored by torch, and every score that was served is held
against the one that training would see. The store keeps the events: use one of its own.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from tqdm import tqdm

from feature_store.events.export import export_events
from feature_store.redis.event_log import EventLogReader
from feature_store.tables import ITEM_KEY, SERVED, TIME, USER_KEY, EntityTables, read_tables
from feature_store.views import FeatureViews, load_views
from models.live_traffic import LiveTraffic, ServedScore
from models.repository import ModelReference, ModelRepository
from models.skew import ModelSkew, SkewError
from models.training.offline_scores import score_rows_offline
from models.training.rows import RowSet, encode_rows
from models.training.run_directory import read_run

_CLIENTS = 8
_SETTLED_S = 60.0


@dataclass(frozen=True, slots=True)
class LiveReplay:
    """A service under test, what it was made from, and its event log."""

    views: Path
    url: str
    repository: ModelRepository
    runs: Path
    log: EventLogReader


@dataclass(frozen=True, slots=True)
class LiveSkew:
    """What was served, and how far it was from what training sees, by model version."""

    answers: int
    events: int
    skews: dict[str, ModelSkew]


async def measure_live_skew(replay: LiveReplay, *, answers: int, seed: int) -> LiveSkew:
    """Make ``answers`` requests with their events, export the log, and compare every score.

    Raises:
        SkewError: an answer without scores, an event that was not taken, or a served row that the export lacks.
    """
    views = load_views(replay.views)
    tables = read_tables(views, replay.views.parent)
    async with httpx.AsyncClient(base_url=replay.url, timeout=30) as client:
        traffic = LiveTraffic(views, tables, random.Random(seed), client)
        await _visits(traffic, answers)
        await _settle(client)
    with tempfile.TemporaryDirectory(prefix="rankline-live-skew-") as folder:
        export_events(replay.views, Path(folder) / "export", await replay.log.read_all())
        skews = _compare(replay, Path(folder) / "export" / "views.yaml", traffic.served)
    return LiveSkew(answers, traffic.events, skews)


async def _visits(traffic: LiveTraffic, answers: int) -> None:
    left = answers

    async def visitor(bar: tqdm[Any]) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await traffic.one_visit()
            bar.update()

    with tqdm(total=answers, desc="visits", unit="answer", disable=None) as bar:
        async with asyncio.TaskGroup() as group:
            for _ in range(_CLIENTS):
                group.create_task(visitor(bar))


async def _settle(client: httpx.AsyncClient) -> None:
    """Wait until every event that was taken is in the store."""
    give_up = time.monotonic() + _SETTLED_S
    await asyncio.sleep(1.0)  # the metric is told twice a second
    while "rankline_spool_pending_records 0.0" not in (await client.get("/metrics")).text:
        if time.monotonic() > give_up:
            raise SkewError(f"events still wait for the store after {_SETTLED_S:.0f} s")
        await asyncio.sleep(0.2)


def _compare(replay: LiveReplay, views_path: Path, served: Sequence[ServedScore]) -> dict[str, ModelSkew]:
    views = load_views(views_path)
    tables = read_tables(views, views_path.parent)
    seen = ["time_us", "user", "item"]
    units_per_s = 1.0 if views.events is None else views.events.units_per_s
    rows = tables.interactions.select(
        (pl.col(TIME).cast(pl.Float64) * (1e6 / units_per_s)).round().cast(pl.Int64).alias("time_us"),
        pl.col(USER_KEY).alias("user"),
        pl.col(ITEM_KEY).alias("item"),
    ).with_row_index("place")
    told = pl.DataFrame(served, schema=[*seen, "model", "score"], orient="row")
    examples = rows.filter(tables.interactions[SERVED].is_not_null()).join(told, on=seen, maintain_order="left")
    if examples.height != len(served):
        raise SkewError(f"{len(served)} scores were served but the export has {examples.height} rows of them")
    skews = {}
    for name in examples["model"].unique(maintain_order=True):
        mine = examples.filter(pl.col("model") == name)
        offline = _scores(replay, name, views, tables, mine["place"].to_numpy().astype(np.int64))
        skews[name] = ModelSkew(np.abs(offline - mine["score"].to_numpy()).tolist())
    return skews


def _scores(replay: LiveReplay, name: str, views: FeatureViews, tables: EntityTables, places: np.ndarray) -> np.ndarray:
    manifest = replay.repository.open(ModelReference.parse(name)).manifest
    run = read_run(replay.runs / manifest.training.run_id)
    rows: RowSet = encode_rows(views, tables, run.encoder)
    return score_rows_offline(run, rows, places)
