"""One server, or the master behind sentinels, as the read path sees it: connections lent, distrusted, proven."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection

from feature_store.errors import StoreUnavailableError
from feature_store.redis.buffered_replies import write
from feature_store.redis.connections import ask, driver_errors
from feature_store.redis.exchange_limits import ExchangeLimits
from feature_store.redis.kept_connections import KeptConnections
from feature_store.redis.value_replies import buffered_values, packed_get, packed_mget
from feature_store.stored import ReadValue

_TEARDOWN_PAUSE_S = 1.0
AnswerT = TypeVar("AnswerT")
ReadingOf = Callable[[Sequence[ReadValue]], tuple[AnswerT, bool]]
"""Makes an answer of an exchange's values, and says whether they were mixed up."""


class StoreNode:
    """A pool, and the rules by which the read path uses it."""

    shares_exchanges = True

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._connections = KeptConnections(pool)
        self._limits = ExchangeLimits(pool.connection_kwargs.get("socket_timeout"))
        self._torn_down_at = -math.inf

    async def exchange(self, single: Sequence[bytes], many: Sequence[bytes], reading: ReadingOf[AnswerT]) -> AnswerT:
        """What ``reading`` makes of the values of the keys, the single ones first; one write, one round trip.

        ``single`` keys are told to be of a wrong type where they are, ``many`` keys of a wrong type count as absent. The
        connection is held until the values are checked; one that brought mixed-up values never goes back alive.

        Raises:
            StoreUnavailableError: no usable answer.
        """
        connection = await self._connections.take()
        try:
            answer, mixed_up = reading(await self._values(connection, single, many))
            if mixed_up:
                await self.distrust(connection)
            return answer
        finally:
            await self._connections.give_back(connection)

    async def _values(
        self, connection: AbstractConnection, single: Sequence[bytes], many: Sequence[bytes]
    ) -> Sequence[ReadValue]:
        """Everything is written at once. Anything but sound replies costs the connection: more may be on their way."""
        commands = [*map(packed_get, single), *([packed_mget(many)] if many else [])]
        try:
            with self._limits.begin():
                write(connection, b"".join(commands))
                return await buffered_values(connection, len(single), len(many))
        except BaseException:
            await connection.disconnect(nowait=True)
            with driver_errors():
                raise

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[AbstractConnection]:
        """A connection, open and with nothing left over in it, given back when the context ends.

        Raises:
            StoreUnavailableError: none can be had.
        """
        connection = await self._connections.take()
        try:
            yield connection
        finally:
            await self._connections.give_back(connection)

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
        await self._connections.drop()

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
        self._limits.stop()
        await self._connections.close()
