"""One server, or the master behind sentinels, as the read path sees it: connections lent, distrusted, proven."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection

from feature_store.errors import StoreUnavailableError
from feature_store.redis.connections import ask, driver_errors
from feature_store.redis.value_replies import get_replies, mget_reply, packed_get, packed_mget
from feature_store.stored import ReadValue

_TEARDOWN_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class HeldValues:
    """Values in the order of the keys asked for, the single ones first, while the connections that brought them are held."""

    values: list[ReadValue]
    distrust: Callable[[], Awaitable[None]]
    """Drop those connections, and all others that may have been mixed up with them."""


class StoreNode:
    """A pool, and the rules by which the read path uses it."""

    shares_exchanges = True

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._pool = pool
        self._torn_down_at = -math.inf

    @asynccontextmanager
    async def held_values(self, single: Sequence[bytes], many: Sequence[bytes]) -> AsyncIterator[HeldValues]:
        """The values of the keys, by one write; the connection goes back to the pool when the context ends.

        ``single`` keys are told to be of a wrong type where they are, ``many`` keys of a wrong type count as absent.

        Raises:
            StoreUnavailableError: no usable answer.
        """
        async with self.borrowed() as connection:
            values = await _exchange(connection, single, many)
            yield HeldValues(values, lambda: self.distrust(connection))

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


async def _exchange(connection: AbstractConnection, single: Sequence[bytes], many: Sequence[bytes]) -> list[ReadValue]:
    """Everything is written at once. Anything but sound replies costs the connection: more of them may be on their way.

    One timeout bounds it all. The driver's own would be a timer for every reply, and a task for what is written.
    """
    commands = [*map(packed_get, single), *([packed_mget(many)] if many else [])]
    limit_s, connection.socket_timeout = connection.socket_timeout, None
    try:
        with driver_errors():
            async with asyncio.timeout(limit_s):
                await connection.send_packed_command(b"".join(commands))
                values = await get_replies(connection, len(single))
                return values + await mget_reply(connection, len(many)) if many else values
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        connection.socket_timeout = limit_s
