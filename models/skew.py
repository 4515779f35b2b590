"""Train = serve, measured: held-out rows replayed through a running service, its scores held against torch's.

For each sampled test row the user's history is written into the online store as it was just before the row, the service is
asked to rank that one item, and the score is compared with the offline path: rows built by Polars, encoded in bulk, scored by
the torch network of the very run that the served version came from. The store keeps the replayed histories: use one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tqdm import tqdm

from feature_store.materialize import write_history
from feature_store.redis.writer import RedisWriter
from feature_store.tables import read_tables
from feature_store.views import load_views
from models.repository import ModelReference, ModelRepository
from models.training.offline_scores import score_rows_offline
from models.training.row_store import RawRow
from models.training.rows import TrainingData, build_training_data
from models.training.run_directory import TrainedRun, read_run

TOLERANCE = 1e-5


class SkewError(Exception):
    """The comparison cannot be made: an answer that is degraded or refused, or a run that is not the served one."""


@dataclass(slots=True)
class ModelSkew:
    """Absolute differences between served and offline scores of one model version."""

    differences: list[float] = field(default_factory=list)

    @property
    def largest(self) -> float:
        """The largest difference."""
        return max(self.differences)


@dataclass(frozen=True, slots=True)
class Replay:
    """A service under test and what it was made from."""

    views: Path
    url: str
    repository: ModelRepository
    runs: Path
    writer: RedisWriter


async def measure_skew(replay: Replay, *, rows: int, seed: int) -> dict[str, ModelSkew]:
    """Replay ``rows`` random test rows; gives the differences by model version (``din@1``).

    Raises:
        SkewError: an answer without scores, or served from another run or data than these.
    """
    views = load_views(replay.views)
    data = build_training_data(views, read_tables(views, replay.views.parent))
    count = min(rows, len(data.test))
    places = np.random.default_rng(seed).choice(len(data.test), size=count, replace=False)
    comparison = _Comparison(replay, data)
    async with httpx.AsyncClient(base_url=replay.url, timeout=10) as client:
        for place in tqdm(places.tolist(), desc="replay", unit="row", disable=None):
            row = data.test.raw(place)
            await write_history(replay.writer, row.user_id, row.history_items, row.history_times)
            comparison.add(place, await _ask(client, row))
    return comparison.skews


class _Comparison:
    """Scores rows offline with the run behind whichever version answered."""

    def __init__(self, replay: Replay, data: TrainingData) -> None:
        self._replay = replay
        self._data = data
        self._runs: dict[str, TrainedRun] = {}
        self.skews: dict[str, ModelSkew] = {}

    def add(self, place: int, answer: Mapping[str, Any]) -> None:
        """Compare one answer."""
        served = ModelReference(answer["model"]["name"], answer["model"]["version"])
        name = str(served)
        if name not in self._runs:
            self._runs[name] = self._run_of(served)
        offline = self._score(self._runs[name], place)
        difference = abs(answer["items"][0]["score"] - offline)
        self.skews.setdefault(name, ModelSkew()).differences.append(difference)

    def _run_of(self, served: ModelReference) -> TrainedRun:
        manifest = self._replay.repository.open(served).manifest
        run = read_run(self._replay.runs / manifest.training.run_id)
        if run.encoder.fingerprint != self._data.encoder.fingerprint:
            raise SkewError(f"{served}: its run {manifest.training.run_id} was trained on other data or views")
        return run

    def _score(self, run: TrainedRun, place: int) -> float:
        return float(score_rows_offline(run, self._data.test, np.array([place]))[0])


async def _ask(client: httpx.AsyncClient, row: RawRow) -> dict[str, Any]:
    body: dict[str, Any] = {"user_id": row.user_id, "candidates": [row.item_id], "timeout_ms": 10_000}
    if row.context:
        body["context"] = dict(row.context)
    if row.candidate:
        body["candidate_features"] = {name: [value] for name, value in row.candidate.items()}
    response = await client.post("/rank", json=body)
    answer: dict[str, Any] = response.json()
    if response.status_code != httpx.codes.OK or answer["degraded"] is not None:
        raise SkewError(f"user {row.user_id}, item {row.item_id}: status {response.status_code}, answer {response.text[:500]}")
    return answer
