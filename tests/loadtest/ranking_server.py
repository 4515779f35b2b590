"""A real HTTP server in the shape of the ranking service, with the faults that a test asks for."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

TIMINGS = {"parse": 0.2, "assign": 0.01, "fetch": 0.5, "encode": 0.3, "queue": 0.1, "score": 2.0, "respond": 0.05}


def good_answer(request: dict[str, Any]) -> dict[str, Any]:
    """What a healthy service says."""
    chosen = request["candidates"][: request.get("top_k")]
    return {
        "request_id": "r",
        "user_id": request["user_id"],
        "items": [{"id": item, "score": 0.5} for item in reversed(chosen)],
        "model": {"name": "din", "version": 3, "digest": "d"},
        "degraded": None,
        "timings_ms": TIMINGS,
    }


@dataclass
class RankingServer:
    """``respond`` gives status and body of a request; ``delay_s`` is slept without blocking, ``stall_s`` blocks everybody."""

    respond: Callable[[dict[str, Any]], tuple[int, Any]] = lambda request: (200, good_answer(request))
    delay_s: Callable[[dict[str, Any]], float] = lambda request: 0.0
    stall_s: Callable[[int], float] = lambda number: 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """The ASGI application."""
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        status, answer = (200, {"status": "ready"}) if scope["path"] == "/health/ready" else await self._rank(body)
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        if 300 <= status < 400:
            head.append((b"location", b"/health/ready"))
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": content})

    async def _rank(self, body: bytes) -> tuple[int, Any]:
        request = json.loads(body)
        self.requests.append(request)
        time.sleep(self.stall_s(len(self.requests)))  # noqa: ASYNC251 (a stalled service is what is simulated)
        await asyncio.sleep(self.delay_s(request))
        return self.respond(request)


@contextmanager
def serving(server: RankingServer) -> Iterator[RankingServer]:
    """The server on a free port of this machine."""
    runner = uvicorn.Server(uvicorn.Config(server, port=0, lifespan="off", log_level="critical", access_log=False, ws="none"))
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    while not runner.started:
        time.sleep(0.01)
    server.url = f"http://127.0.0.1:{runner.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        runner.should_exit = True
        runner.force_exit = True
        thread.join(10)
