"""The least HTTP/1.1 that a client needs: one kept connection, requests made beforehand, an answer as status and bytes.

A library would close connections tidily; here the ways to leave rudely matter.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)


class WireBrokenError(Exception):
    """The connection was refused, ended, or brought something that is no answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; ``retry_after_s`` is what its header asks for, if anything."""

    status: int
    body: bytes
    retry_after_s: int | None = None


def post(path: str, body: bytes) -> bytes:
    """The bytes of a POST of a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nHost: chaos\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def get(path: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: chaos\r\n\r\n".encode()


class Wire:
    """One connection, opened when needed; after ``leave`` or an error the next use opens a new one."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, request: bytes) -> Reply:
        """Send a request and read its answer.

        Raises:
            WireBrokenError: there is no whole answer.
        """
        await self.send(request)
        try:
            return await self._reply()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            self.leave()
            raise WireBrokenError(f"{type(error).__name__}: {error}") from None
        except asyncio.CancelledError:
            self.leave()  # whatever comes now is nobody's answer
            raise

    async def send(self, data: bytes) -> None:
        """Send bytes, all of a request or a part.

        Raises:
            WireBrokenError: nobody listens.
        """
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._address)
            self._streams[1].write(data)
            await self._streams[1].drain()
        except OSError as error:
            self.leave()
            raise WireBrokenError(f"{type(error).__name__}: {error}") from None

    async def read_some(self, count: int) -> None:
        """Read at most so many bytes of whatever comes; an end is fine, too."""
        if self._streams is not None:
            try:
                await self._streams[0].read(count)
            except OSError:
                self.leave()

    def leave(self) -> None:
        """Be gone at once, in the middle of whatever there is."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()

    async def _reply(self) -> Reply:
        assert self._streams is not None
        reader = self._streams[0]
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        if found is None or not head.startswith(b"HTTP/1.1 "):
            raise ValueError("no answer of a known length")
        body = await reader.readexactly(int(found[1]))
        asked = _RETRY_AFTER.search(head)
        return Reply(int(head[9:12]), body, int(asked[1]) if asked else None)
