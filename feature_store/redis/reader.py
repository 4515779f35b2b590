"""Reading is built so that no request can meet another's data.

A command runs in a task that no caller can cancel, its reply is checked value by value before the connection goes back to the
pool, and a connection that delivered something strange never goes back alive. Nothing is retried: a caller's deadline is
shorter than any second try.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from feature_store.breaker import BreakerRule, CircuitBreaker
from feature_store.detached import DetachedCalls
from feature_store.errors import StoreUnavailableError
from feature_store.keys import KeySpace
from feature_store.redis.connections import ask, driver_errors, open_pool
from feature_store.store_settings import ReadLimits
from feature_store.stored import StoredRecords, read_reply

ResultT = TypeVar("ResultT")

_TEARDOWN_PAUSE_S = 1.0


class RedisStore:
    """Reads one user and some items in one round trip."""

    def __init__(self, pool: BlockingConnectionPool, keys: KeySpace, limits: ReadLimits, breaker: CircuitBreaker) -> None:
        self._pool = pool
        self._keys = keys
        self._calls = DetachedCalls(limits.outstanding)
        self._breaker = breaker
        self._torn_down_at = -math.inf

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        keys: KeySpace | None = None,
        limits: ReadLimits | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> RedisStore:
        """A store at ``redis://``, ``rediss://`` or ``unix://``; nothing is connected before the first read.

        Raises:
            StoreSettingError: the URL cannot be used.
        """
        limits = limits or ReadLimits()
        pool = open_pool(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=limits.connect_timeout_s,
            socket_timeout=limits.read_timeout_s,
            timeout=limits.pool_timeout_s,
            max_connections=limits.connections,
        )
        return cls(pool, keys or KeySpace(), limits, breaker or CircuitBreaker(BreakerRule()))

    async def read(self, user_id: str, item_ids: Sequence[str]) -> StoredRecords:
        """The user's features and history, and the items' features, by a single MGET.

        Cancelling the caller leaves the exchange running to its own timeout.

        Raises:
            StoreUnavailableError: no usable answer; ``reason`` says why.
        """
        if not self._breaker.permits():
            raise StoreUnavailableError("circuit_open")
        ids = list(item_ids)
        try:
            return await self._calls.run(lambda: self._reported(lambda: self._read(user_id, ids)))
        except StoreUnavailableError as error:
            if error.reason in ("pool_exhausted", "closed"):
                self._breaker.abandoned()  # the call may never have been started
            raise

    async def ping(self) -> None:
        """Prove that the store answers; heard by the circuit breaker, but never held back by it.

        Raises:
            StoreUnavailableError: it does not.
        """
        await self._calls.run(lambda: self._reported(self._ping))

    async def close(self) -> None:
        """Let the exchanges under way end (their timeouts bound the wait) and close every connection."""
        await self._calls.close()
        await self._pool.aclose()

    async def _reported(self, exchange: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Await an exchange and tell the circuit breaker how it went."""
        try:
            result = await exchange()
        except StoreUnavailableError as error:
            if error.reason == "pool_exhausted":
                self._breaker.abandoned()
            else:
                self._breaker.failed()
            raise
        except BaseException:
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        return result

    async def _read(self, user_id: str, item_ids: list[str]) -> StoredRecords:
        """One MGET: the seam where a Redis Cluster would need one command per slot, in one pipeline."""
        keys = [self._keys.user(user_id), self._keys.history(user_id), *map(self._keys.item, item_ids)]
        async with self._borrowed() as connection:
            values = await _ask_values(connection, keys)
            stored = read_reply(user_id, item_ids, values)
            if stored.owner_mismatch:
                await self._distrust(connection)
            return stored

    async def _ping(self) -> None:
        async with self._borrowed() as connection:
            if await ask(connection, b"PING") != b"PONG":
                await connection.disconnect(nowait=True)
                raise StoreUnavailableError("protocol", "PING was not answered by PONG")

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[AbstractConnection]:
        with driver_errors(connecting=True):
            connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            yield connection
        finally:
            with driver_errors():
                await self._pool.release(connection)

    async def _distrust(self, connection: AbstractConnection) -> None:
        """Drop the connection that delivered another owner's record, and with it every other one.

        The others are spared within a second of the last such teardown: a record that was *written* under a wrong key comes
        with every request, and must not turn each into a reconnect storm. The delivering connection is dropped always.
        """
        with driver_errors():
            await connection.disconnect(nowait=True)
            if time.monotonic() - self._torn_down_at >= _TEARDOWN_PAUSE_S:
                self._torn_down_at = time.monotonic()
                await self._pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
                await self._pool.disconnect(inuse_connections=False)


async def _ask_values(connection: AbstractConnection, keys: list[bytes]) -> list[bytes | None]:
    """MGET; a reply of another shape or length costs the connection.

    Raises:
        StoreUnavailableError: no reply, an error reply, or ``protocol``.
    """
    reply = await ask(connection, b"MGET", *keys)
    if isinstance(reply, list) and len(reply) == len(keys) and all(isinstance(value, bytes | None) for value in reply):
        return reply
    await connection.disconnect(nowait=True)
    raise StoreUnavailableError("protocol", f"MGET of {len(keys)} keys was not answered by as many values")
