"""A small HTTP server on this event loop that answers as a test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Respond = Callable[[str, bytes], tuple[int, bytes] | None]
"""Path and body to status and body; None hangs up without an answer."""


@asynccontextmanager
async def answering(respond: Respond) -> AsyncIterator[int]:
    """The port of a server that lives as long as the block."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length:")[2].split("\r\n")[0] or 0)
                answer = respond(head.split(" ")[1], await reader.readexactly(length))
                if answer is None:
                    break
                status, content = answer
                extra = "retry-after: 0\r\n" if status == 503 else ""
                writer.write(f"HTTP/1.1 {status} X\r\n{extra}content-length: {len(content)}\r\n\r\n".encode() + content)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
