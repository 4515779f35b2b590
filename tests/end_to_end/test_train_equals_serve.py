"""Held-out rows replayed through the running service get torch's offline score."""

import asyncio

import pytest
import redis

from demo.steps import run_command
from feature_store.embedded import EmbeddedStore
from feature_store.redis.writer import RedisWriter
from models.repository import ModelRepository
from models.skew import TOLERANCE, Replay, measure_skew
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
