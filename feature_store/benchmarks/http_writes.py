"""``POST /events`` of a service as a process of its own: how many events a second it keeps *and* applies.

The service and the store share one core, the client has the other: what comes out is the rate of one core. The service needs a
published model to start; it is the one of a workspace that ``make demo`` or ``make smoke`` left.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from feature_store.benchmarks.layout import Layout, free_port, on_core
from feature_store.benchmarks.made_events import ITEMS, USERS
from feature_store.benchmarks.timing import Spread
from feature_store.errors import BenchmarkError
from feature_store.keys import KeySpace
from feature_store.redis.plain_hashes import ServerGauge

_READY_S = 60.0
_STOP_S = 20.0
_DRAINED_S = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HttpLoad:
    """``requests`` of ``events`` each over each of so many connections, one after the other."""

    connections: int
    events: int
    requests: int


@dataclass(frozen=True, slots=True)
class HttpRate:
    """``events`` that the store had after ``seconds``; how many answers said applied (200) and kept (202); their times."""

    events: int
    seconds: float
    applied: int
    kept: int
    answer_ms: Spread

    @property
    def per_s(self) -> float:
        """Events a second."""
        return self.events / self.seconds


def has_models(workspace: Path) -> bool:
    """Whether a service can be started on what is there."""
    return (workspace / "models" / "din").is_dir() and (workspace / "data" / "views.yaml").is_file()


@contextmanager
def running_service(workspace: Path, store_url: str, directory: Path, layout: Layout) -> Iterator[int]:
    """A service on the workspace's model, on the server's core; its port.

    Raises:
        BenchmarkError: it does not become ready.
    """
    port = free_port()
    settings = {
        "RANKLINE_MODELS__REPOSITORY": str(workspace / "models"),
        "RANKLINE_MODELS__FALLBACK": "din@latest",
        "RANKLINE_PLAN__PATH": str(directory / "plan.yaml"),
        "RANKLINE_PLAN__STATE_DIRECTORY": str(directory / "state"),
        "RANKLINE_EVENTS__SPOOL_DIRECTORY": str(directory / "spool"),
        "RANKLINE_STORE__URL": store_url,
        "RANKLINE_VIEWS": str(workspace / "data" / "views.yaml"),
        "RANKLINE_LOG_LEVEL": "error",
    }
    log_path = directory / "service.log"
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    with log_path.open("wb") as log, on_core(layout.server_core):
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True)
    try:
        asyncio.run(_ready(process, port, log_path))
        yield port
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(directory / "spool", ignore_errors=True)


async def measure_http(port: int, store_url: str, load: HttpLoad, seed: str) -> HttpRate:
    """Send it all, and wait until the store has applied it.

    Raises:
        BenchmarkError: an event was refused, or is not in the store in time.
    """
    bodies = [
        [_request(f"{seed}-{connection}-{number}", load.events) for number in range(load.requests)]
        for connection in range(load.connections)
    ]
    events = load.connections * load.requests * load.events
    gauge = ServerGauge(store_url)
    try:
        before, started = gauge.count(KeySpace().event_count), time.perf_counter()
        answers = [each for sent in await asyncio.gather(*(_send(port, each) for each in bodies)) for each in sent]
        while gauge.count(KeySpace().event_count) - before < events:
            if time.perf_counter() - started > _DRAINED_S:
                raise BenchmarkError("the store has not applied all events in time")
            await asyncio.sleep(0.005)
        seconds = time.perf_counter() - started
    finally:
        gauge.close()
    statuses = [status for status, _ in answers]
    if set(statuses) - {200, 202}:
        raise BenchmarkError(f"events were answered by {sorted(set(statuses))}")
    return HttpRate(events, seconds, statuses.count(200), statuses.count(202), Spread.of([took for _, took in answers]))


def _request(seed: str, events: int) -> bytes:
    draw = random.Random(seed)
    made = [_event(f"{seed}-{number}", draw) for number in range(events)]
    body = json.dumps(made[0] if events == 1 else {"events": made}).encode()
    return _head("POST /events", len(body)) + body


def _event(event_id: str, draw: random.Random) -> dict[str, str]:
    user, item = f"u{draw.randrange(USERS)}", str(draw.randrange(ITEMS))
    return {"event_id": event_id, "user_id": user, "item_id": item, "type": "click"}


def _head(what: str, length: int) -> bytes:
    lines = (f"{what} HTTP/1.1", "Host: bench", "Content-Type: application/json", f"Content-Length: {length}", "", "")
    return "\r\n".join(lines).encode()


async def _send(port: int, requests: list[bytes]) -> list[tuple[int, float]]:
    """Status and milliseconds of every answer."""
    answers = []
    async with _connected(port) as (reader, writer):
        for request in requests:
            started = time.perf_counter()
            writer.write(request)
            status = await _answer(reader)
            answers.append((status, (time.perf_counter() - started) * 1e3))
    return answers


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    await reader.readexactly(int(length.group(1)) if length else 0)
    return int(head.split(b" ", 2)[1])


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + _READY_S
    while time.monotonic() < give_up and process.poll() is None:
        try:
            async with _connected(port) as (reader, writer):
                writer.write(_head("GET /health/ready", 0))
                if await _answer(reader) == 200:
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.1)
    said = (await asyncio.to_thread(log.read_text, errors="replace"))[-2_000:]
    raise BenchmarkError(f"the service did not become ready; its log ends with:\n{said}")
