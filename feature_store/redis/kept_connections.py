"""Connections lent to one exchange after another, without a visit to the driver's pool between two of them.

The pool's locks, events and checks cost more than an exchange's own writing and reading. To the pool a kept connection is one
in use, so its bounds hold; but for that, one kept is as one that lies in the pool: whoever needs a connection takes it first,
and it is lent only if it is open, nothing is left over in it, and nobody wants it closed.
"""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection

from feature_store.redis.connections import driver_errors
from feature_store.redis.sentinel import MasterPool


class KeptConnections:
    """Lends the connections of a pool; for one event loop."""

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._pool = pool
        self._kept: list[AbstractConnection] = []
        self._asking = 0
        self._master_may_change = isinstance(pool, MasterPool)

    async def take(self) -> AbstractConnection:
        """A connection, open and with nothing left over in it, which must be given back.

        Raises:
            StoreUnavailableError: none can be had.
        """
        looked_at = not self._kept
        connection = self._kept.pop() if self._kept else await self._take_from_pool()
        try:
            with driver_errors(connecting=True):
                if not looked_at and (self._master_may_change or not connection.is_connected or await connection.can_read()):
                    await self._pool.ensure_connection(connection)
                # Dropped before or while we looked: what it led to is not trusted any more, whoever answers there.
                while connection.should_reconnect():  # type: ignore[no-untyped-call]
                    await connection.disconnect(nowait=True)
                    await self._pool.ensure_connection(connection)
        except BaseException:
            await self._return(connection)
            raise
        return connection

    async def give_back(self, connection: AbstractConnection) -> None:
        """To whoever waits for one at the pool, else it is kept; one that is closed, or is to be, goes to the pool."""
        if self._asking or not connection.is_connected or connection.should_reconnect():  # type: ignore[no-untyped-call]
            await self._return(connection)
        else:
            self._kept.append(connection)

    async def drop(self) -> None:
        """Close the idle connections now, and the others as soon as they come back."""
        kept, self._kept = self._kept, []  # at once: nobody is lent one of these any more
        with driver_errors():
            await self._pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
            for connection in kept:
                await self._return(connection)
            await self._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def _take_from_pool(self) -> AbstractConnection:
        self._asking += 1
        try:
            with driver_errors(connecting=True):
                connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                return connection
        finally:
            self._asking -= 1

    async def _return(self, connection: AbstractConnection) -> None:
        with driver_errors():
            await self._pool.release(connection)
