"""Held-out rows replayed through the running service get torch's offline score, and so do rows that came live."""

import asyncio

import polars as pl
import pytest
import redis

from demo.steps import run_command
from feature_store.embedded import EmbeddedStore
from feature_store.redis.event_log import EventLogReader
from feature_store.redis.writer import RedisWriter
from feature_store.tables import SERVED, EntityTables
from models import live_skew
from models.live_skew import LiveReplay, measure_live_skew
from models.repository import ModelRepository
from models.skew import TOLERANCE, Replay, measure_skew
from models.training.rows import encode_rows
from tests.end_to_end.line import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def skews_of(line, server, url, rows):
    async def measure():
        writer = RedisWriter.from_url(url)
        replay = Replay(line.views, server.url, ModelRepository(line.workspace.models), line.workspace.runs, writer)
        try:
            return await measure_skew(replay, rows=rows, seed=3)
        finally:
            await writer.close()

    return asyncio.run(measure())


def test_served_scores_are_the_trained_ones_and_a_planted_skew_is_seen(line, tmp_path):
    with EmbeddedStore(tmp_path / "store") as store:
        run_command(["-m", "feature_store", "materialize", str(line.views), "--redis", store.url])
        with serving(line, tmp_path, {"RANKLINE_STORE__URL": store.url}) as server:
            skews = skews_of(line, server, store.url, rows=200)
        assert set(skews) == {"din@1", "deepfm@1"}
        assert sum(len(skew.differences) for skew in skews.values()) == 200
        assert min(len(skew.differences) for skew in skews.values()) > 40
        assert max(skew.largest for skew in skews.values()) <= TOLERANCE

        with redis.Redis.from_url(store.url) as client:
            client.delete(*client.keys("rankline:item:*"))
        with serving(line, tmp_path, {"RANKLINE_STORE__URL": store.url}) as server:
            broken = skews_of(line, server, store.url, rows=40)
        assert min(skew.largest for skew in broken.values()) > 100 * TOLERANCE


def live_skews_of(line, server, url, answers):
    async def measure():
        log = EventLogReader.from_url(url)
        replay = LiveReplay(line.views, server.url, ModelRepository(line.workspace.models), line.workspace.runs, log)
        try:
            return await measure_live_skew(replay, answers=answers, seed=5)
        finally:
            await log.close()

    return asyncio.run(measure())


def without_served_histories(views, tables, encoder):
    """Rows whose history is guessed from event times: late events were not there when the row was served."""
    guessed = tables.interactions.with_columns(pl.lit(None).cast(tables.interactions.schema[SERVED]).alias(SERVED))
    return encode_rows(views, EntityTables(guessed, tables.users, tables.items), encoder)


def test_after_live_events_the_exported_log_gives_the_served_scores_and_a_guessed_history_does_not(line, tmp_path, monkeypatch):
    with EmbeddedStore(tmp_path / "store") as store:
        run_command(["-m", "feature_store", "materialize", str(line.views), "--redis", store.url])
        with serving(line, tmp_path, {"RANKLINE_STORE__URL": store.url}) as server:
            live = live_skews_of(line, server, store.url, answers=400)
        assert set(live.skews) == {"din@1", "deepfm@1"}
        assert min(len(skew.differences) for skew in live.skews.values()) > 200
        assert max(skew.largest for skew in live.skews.values()) <= TOLERANCE

    with EmbeddedStore(tmp_path / "other") as store:
        run_command(["-m", "feature_store", "materialize", str(line.views), "--redis", store.url])
        monkeypatch.setattr(live_skew, "encode_rows", without_served_histories)
        (tmp_path / "control").mkdir()
        with serving(line, tmp_path / "control", {"RANKLINE_STORE__URL": store.url}) as server:
            guessed = live_skews_of(line, server, store.url, answers=400)
        assert guessed.skews["din@1"].largest > 100 * TOLERANCE
