"""Made traffic keeps to the times that events are kept with: no two of its scores stand for one row."""

import json
import random

import httpx
import pytest
import yaml

from feature_store.tables import read_tables
from feature_store.views import load_views
from models.live_traffic import LiveTraffic
from tests.models.tiny_shop import write_tiny_shop

NOW_NS = 1_800_000_000_123_456_789


class Service:
    """Answers rankings of everything asked for, takes every event."""

    def __init__(self):
        self.views = []

    def __call__(self, request):
        body = json.loads(request.content)
        if request.url.path == "/rank":
            items = [{"id": each, "score": 0.5} for each in body["candidates"]]
            model = {"name": "m", "version": 1}
            told = {"items": items, "model": model, "freshness": {"history_version": 1}, "degraded": None, "request_id": "r"}
            return httpx.Response(200, json=told)
        assert body["events"], "an empty batch"
        self.views += [each for each in body["events"] if each["type"] == "view"]
        return httpx.Response(200, json={"refused_count": 0})


@pytest.mark.parametrize(("resolution", "seen_us"), [("s", 1_800_000_000_000_000), ("us", 1_800_000_000_123_456)])
async def test_an_item_seen_again_at_the_same_kept_time_is_neither_sent_nor_recorded(
    tmp_path, monkeypatch, resolution, seen_us
):
    path = write_tiny_shop(tmp_path)
    events = {"time_resolution": resolution, "types": [{"name": "view", "sets": {"clicked": 0}, "example": True}]}
    events["types"].append({"name": "click", "sets": {"clicked": 1}})
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "events": events}))
    views = load_views(path)
    monkeypatch.setattr("models.live_traffic.time.time_ns", lambda: NOW_NS)
    monkeypatch.setattr("models.live_traffic._SENT_TWICE", 0.0)
    service = Service()
    async with httpx.AsyncClient(transport=httpx.MockTransport(service), base_url="http://service") as client:
        traffic = LiveTraffic(views, read_tables(views, tmp_path), random.Random(1), client)
        for _ in range(300):
            await traffic.one_visit()
    keys = [(each.time_us, each.user, each.item) for each in traffic.served]
    assert len(set(keys)) == len(keys) > 100
    assert {each.time_us for each in traffic.served} == {seen_us}
    assert [(round(each["time"] * 1e6), each["user_id"], each["item_id"]) for each in service.views] == keys
