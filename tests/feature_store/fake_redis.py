"""A server that speaks just enough RESP to misbehave as told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

Command = list[bytes]
Answer = Callable[[Command, asyncio.StreamWriter], Awaitable[None]]


def bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def array(values: list[bytes | None]) -> bytes:
    return b"*%d\r\n%s" % (len(values), b"".join(map(bulk, values)))


def always(reply: bytes) -> Answer:
    """Every command is answered by these bytes."""

    async def answer(_: Command, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)

    return answer


class FakeRedis:
    """Answers commands by ``answer``, which tests may replace at any time; counts what reached it."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.url = f"unix://{path}"
        self.answer = answer
        self.commands: list[Command] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                command = await _command(reader)
                self.commands.append(command)
                await self.answer(command, writer)
        writer.close()


async def _command(reader: asyncio.StreamReader) -> Command:
    head = await reader.readuntil(b"\r\n")
    parts = []
    for _ in range(int(head[1:])):
        size = await reader.readuntil(b"\r\n")
        parts.append((await reader.readexactly(int(size[1:]) + 2))[:-2])
    return parts


@contextlib.asynccontextmanager
async def fake_redis(directory: Path, answer: Answer) -> AsyncIterator[FakeRedis]:
    """A fake server on a Unix socket in ``directory``; its connections are gone when it ends."""
    fake = FakeRedis(directory / "fake.sock", answer)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await fake.serve(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(serve, directory / "fake.sock")
    try:
        yield fake
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
