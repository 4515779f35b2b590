"""The positive control: a server that reads Redis as one does without a second thought. Needs the standard library and redis.

``python -P control_server.py PORT REDIS_URL``: a user's value is fetched by a plain GET on the driver's own pool, with a
timeout of 10 ms by ``asyncio.wait_for``, and the request is cancelled when its client goes. Whatever was read is the answer.
With redis-py 4.5.3 a cancelled command leaves its reply behind for the next one on the connection.
"""

from __future__ import annotations

import asyncio
import json
import sys

import redis
import redis.asyncio

_TIMEOUT_S = 0.010
_HEAD_END = b"\r\n\r\n"


class ControlConnection(asyncio.Protocol):
    """One client's connection: one request at a time, cancelled when the client goes."""

    def __init__(self, store: redis.asyncio.Redis) -> None:
        self._store = store
        self._received = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Start answering once the request is whole."""
        self._received += data
        head, end, body = self._received.partition(_HEAD_END)
        if not end:
            return
        if head.startswith(b"GET"):
            self._received = b""
            self._send(json.dumps({"redis": redis.__version__}).encode())
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) >= length:
            self._received = b""
            self._task = asyncio.get_running_loop().create_task(self._answer(json.loads(body)["user_id"]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """The client has gone: so does the work for it."""
        if self._task is not None:
            self._task.cancel()

    async def _answer(self, user_id: str) -> None:
        try:
            value = await asyncio.wait_for(self._store.get(f"control:{user_id}"), _TIMEOUT_S)
            content = value if isinstance(value, bytes) else degraded(user_id, "not_found")
        except TimeoutError:
            content = degraded(user_id, "timeout")
        except Exception as error:  # this driver fails in ways of its own; they are not what is measured
            content = degraded(user_id, type(error).__name__)
        self._send(content)

    def _send(self, content: bytes) -> None:
        if not self._transport.is_closing():
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
            self._transport.write(head.encode() + content)


def degraded(user_id: str, reason: str) -> bytes:
    """The answer without a history."""
    freshness: dict[str, object] = {"history_length": 0, "history_version": None, "missing": []}
    why = {"level": "default_features", "reason": reason}
    return json.dumps({"user_id": user_id, "freshness": freshness, "degraded": why, "attention_history": []}).encode()


async def serve(port: int, url: str) -> None:
    """Serve until the process is told to end."""
    store = redis.asyncio.Redis.from_url(url)
    server = await asyncio.get_running_loop().create_server(lambda: ControlConnection(store), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
