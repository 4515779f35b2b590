"""Counts round trips on the wire: how often a client waits for replies before it goes on.

A relay stands before the server. It passes on what the client sends, but holds the replies until nothing has come from either
side for a while, and delivers them together: each delivery is one round trip, however many commands it answers.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

_HOLD_S = 0.03
_LOOK_S = 0.005
_CHUNK = 1 << 16
_START_S = 10.0


class TripCounter:
    """A relay at ``url``, on a thread of its own: clients that block must not stop it. ``trips`` counts since the start."""

    def __init__(self, server_url: str, socket: Path) -> None:
        self._server = unquote(urlsplit(server_url).path)
        self._socket = socket
        self.url = f"unix://{quote(str(socket))}"
        self.trips = 0
        self._stop: Callable[[], object] = lambda: None
        self._listening: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.result(_START_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()
        self._thread.join(_START_S)

    async def _serve(self) -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        relays: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            relays.add(loop.create_task(self._relay(reader, writer)))

        try:
            server = await asyncio.start_unix_server(accept, self._socket)
        except OSError as error:
            self._listening.set_exception(error)
            return
        self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
        self._listening.set_result(None)
        await stopped.wait()
        server.close()
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        held = bytearray()
        moved_at = time.monotonic()

        async def pass_on(source: asyncio.StreamReader, take: Callable[[bytes], object]) -> None:
            nonlocal moved_at
            while data := await source.read(_CHUNK):
                take(data)
                moved_at = time.monotonic()

        to_server = asyncio.create_task(pass_on(reader, server_writer.write))
        from_server = asyncio.create_task(pass_on(server_reader, held.extend))
        try:
            while not to_server.done():
                await asyncio.sleep(_LOOK_S)
                if held and time.monotonic() - moved_at > _HOLD_S:
                    self.trips += 1
                    writer.write(bytes(held))
                    held.clear()
        finally:
            to_server.cancel()
            from_server.cancel()
            server_writer.close()
            writer.close()
