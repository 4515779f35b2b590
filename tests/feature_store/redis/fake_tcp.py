"""Fake servers on TCP ports, for layouts of several servers."""

import asyncio
import contextlib


@contextlib.asynccontextmanager
async def serving_tcp(fake):
    """Serve a ``FakeRedis`` on a free loopback port, which it then knows as its ``port``."""
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.CancelledError):
            await fake.serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
