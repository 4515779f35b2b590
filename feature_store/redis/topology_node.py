"""One server, or the master behind sentinels, as the read path sees it: connections lent, distrusted, proven."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection

from feature_store.errors import StoreUnavailableError
from feature_store.redis.connections import ask, driver_errors

_TEARDOWN_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class HeldValues:
    """Values in the order of the keys asked for, while the connections that brought them are still held."""

    values: list[bytes | None]
    distrust: Callable[[], Awaitable[None]]
    """Drop those connections, and all others that may have been mixed up with them."""


class StoreNode:
    """A pool, and the rules by which the read path uses it."""

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._pool = pool
        self._torn_down_at = -math.inf

    @asynccontextmanager
    async def held_values(self, keys: list[bytes]) -> AsyncIterator[HeldValues]:
        """The values of the keys, by one MGET; the connection goes back to the pool when the context ends.

        Raises:
            StoreUnavailableError: no usable answer.
        """
        async with self.borrowed() as connection:
            reply = await ask(connection, b"MGET", *keys)
            if not are_values(reply, len(keys)):
                await connection.disconnect(nowait=True)
                raise StoreUnavailableError("protocol", f"MGET of {len(keys)} keys was not answered by as many values")
            yield HeldValues(reply, lambda: self.distrust(connection))

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[AbstractConnection]:
        """A connection, open and with nothing left over in it, given back when the context ends.

        Raises:
            StoreUnavailableError: none can be had.
        """
        with driver_errors(connecting=True):
            connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            yield connection
        finally:
            with driver_errors():
                await self._pool.release(connection)

    async def distrust(self, connection: AbstractConnection) -> None:
        """Drop the connection that delivered another owner's record, and with it every other one.

        The others are spared within a second of the last such teardown: a record that was *written* under a wrong key comes
        with every request, and must not turn each into a reconnect storm. The delivering connection is dropped always.
        """
        with driver_errors():
            await connection.disconnect(nowait=True)
        if time.monotonic() - self._torn_down_at >= _TEARDOWN_PAUSE_S:
            self._torn_down_at = time.monotonic()
            await self.drop_connections()

    async def drop_connections(self) -> None:
        """Close the idle connections now, and the others as soon as they come back."""
        with driver_errors():
            await self._pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
            await self._pool.disconnect(inuse_connections=False)

    async def ping(self) -> None:
        """Prove that the server answers.

        Raises:
            StoreUnavailableError: it does not.
        """
        async with self.borrowed() as connection:
            if await ask(connection, b"PING") != b"PONG":
                await connection.disconnect(nowait=True)
                raise StoreUnavailableError("protocol", "PING was not answered by PONG")

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


def are_values(reply: object, count: int) -> bool:
    """Whether a reply to MGET is a list of so many values."""
    return isinstance(reply, list) and len(reply) == count and all(isinstance(value, bytes | None) for value in reply)
