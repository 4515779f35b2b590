"""The light client: what it sends, and what it takes for written."""

import asyncio
import json
import re
from contextlib import asynccontextmanager

import pytest

from feature_store.benchmarks import http_writes
from feature_store.benchmarks.http_writes import HttpLoad, has_models, measure_http
from feature_store.errors import BenchmarkError
from feature_store.keys import KeySpace


@asynccontextmanager
async def fake_service(answer):
    """A server that keeps the bodies it gets and answers each by the status that ``answer`` gives for its events."""
    bodies = []

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = json.loads(await reader.readexactly(int(re.search(rb"Content-Length: (\d+)", head)[1])))
                bodies.append(body)
                status = answer(body.get("events", [body]))
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{}" % status)
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], bodies


async def test_what_is_sent_is_counted_once_the_store_has_it(valkey_url, valkey):
    def store(events):
        return 202 if valkey.incrby(KeySpace().event_count, len(events)) == 24 else 200

    valkey.set(KeySpace().event_count, 0)
    async with fake_service(store) as (port, bodies):
        rate = await measure_http(port, valkey_url, HttpLoad(connections=2, events=3, requests=4), "seed")
    assert (rate.events, rate.applied, rate.kept) == (24, 7, 1)
    assert rate.per_s == pytest.approx(24 / rate.seconds)
    events = [event for body in bodies for event in body["events"]]
    assert len({event["event_id"] for event in events}) == 24
    assert {frozenset(event) for event in events} == {frozenset(("event_id", "user_id", "item_id", "type"))}


async def test_a_single_event_is_sent_as_it_is(valkey_url, valkey):
    async with fake_service(lambda events: 200 if valkey.incr(KeySpace().event_count) else 500) as (port, bodies):
        assert (await measure_http(port, valkey_url, HttpLoad(1, 1, 2), "seed")).events == 2
    assert [body["event_id"] for body in bodies] == ["seed-0-0-0", "seed-0-1-0"]


async def test_a_refused_request_is_no_result(valkey_url, valkey):
    valkey.set(KeySpace().event_count, 0)
    async with fake_service(lambda events: 503 if valkey.incr(KeySpace().event_count) else 500) as (port, _):
        with pytest.raises(BenchmarkError, match="503"):
            await measure_http(port, valkey_url, HttpLoad(1, 1, 2), "seed")


async def test_events_that_never_come_into_the_store_are_no_result(valkey_url, monkeypatch):
    monkeypatch.setattr(http_writes, "_DRAINED_S", 0.1)
    async with fake_service(lambda events: 202) as (port, _):
        with pytest.raises(BenchmarkError, match="not applied"):
            await measure_http(port, valkey_url, HttpLoad(1, 1, 2), "seed")


def test_a_service_needs_a_model_and_views(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "views.yaml").touch()
    assert not has_models(tmp_path)
    (tmp_path / "models" / "din").mkdir(parents=True)
    assert has_models(tmp_path)
