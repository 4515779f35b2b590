"""Redis, and nothing else knows it: the only module that imports the driver.

Reading is built so that no request can meet another's data: a command runs in a task that no caller can cancel, its reply
is checked value by value before the connection goes back to the pool, and a connection that delivered something strange
never goes back alive. Nothing is retried on the read path: a caller's deadline is shorter than any second try.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import hiredis
from redis import exceptions as driver
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from feature_store.breaker import BreakerRule, CircuitBreaker
from feature_store.detached import DetachedCalls
from feature_store.errors import StoreSettingError, StoreUnavailableError, UnavailableReason
from feature_store.keys import KeySpace
from feature_store.store_settings import ReadLimits, check_store_url
from feature_store.stored import StoredRecords, read_reply

ResultT = TypeVar("ResultT")

_TEARDOWN_PAUSE_S = 1.0
_EXCEPTION_REASONS: tuple[tuple[type[Exception], UnavailableReason], ...] = (
    (driver.BusyLoadingError, "loading"),
    (driver.AuthenticationError, "noauth"),
    (driver.AuthenticationWrongNumberOfArgsError, "noauth"),
    (driver.AuthorizationError, "noauth"),
    (driver.NoPermissionError, "noauth"),
    (driver.ReadOnlyError, "readonly"),
    (driver.OutOfMemoryError, "oom"),
    (driver.MaxConnectionsError, "pool_exhausted"),
    (driver.InvalidResponse, "protocol"),
    (driver.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
)


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
        pool = _pool(
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
            if await _ask(connection, b"PING") != b"PONG":
                await connection.disconnect(nowait=True)
                raise StoreUnavailableError("protocol", "PING was not answered by PONG")

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[AbstractConnection]:
        with _driver_errors(connecting=True):
            connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            yield connection
        finally:
            with _driver_errors():
                await self._pool.release(connection)

    async def _distrust(self, connection: AbstractConnection) -> None:
        """Drop the connection that delivered another owner's record, and with it every other one.

        The others are spared within a second of the last such teardown: a record that was *written* under a wrong key comes
        with every request, and must not turn each into a reconnect storm. The delivering connection is dropped always.
        """
        with _driver_errors():
            await connection.disconnect(nowait=True)
            if time.monotonic() - self._torn_down_at >= _TEARDOWN_PAUSE_S:
                self._torn_down_at = time.monotonic()
                await self._pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
                await self._pool.disconnect(inuse_connections=False)


class RedisWriter:
    """Pipelined bulk writes for materialization: long timeouts, and retries, since a SET may safely come twice."""

    def __init__(self, client: Redis, keys: KeySpace) -> None:
        self._client = client
        self.keys = keys

    @classmethod
    def from_url(cls, url: str, *, keys: KeySpace | None = None, timeout_s: float = 10.0, retries: int = 4) -> RedisWriter:
        """A writer at the same URLs as ``RedisStore``.

        Raises:
            StoreSettingError: the URL cannot be used.
        """
        pool = _pool(
            url,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries),
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            timeout=timeout_s,
            max_connections=4,
        )
        return cls(Redis.from_pool(pool), keys or KeySpace())

    async def write_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Set every key to its value in one pipeline; callers bound its size.

        Raises:
            StoreUnavailableError: some keys may be written, some not; writing all again is safe.
        """
        pipeline = self._client.pipeline(transaction=False)
        for key, value in pairs:
            pipeline.set(key, value)
        await _replies(pipeline)

    async def count(self, keys: Sequence[bytes]) -> int:
        """How many of the keys the store holds, in one pipeline.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.exists(key)
        return sum(await _replies(pipeline))

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


async def _replies(pipeline: Pipeline) -> list[Any]:
    """Run a pipeline. The driver would add the command, ids and values included, to the message of an error reply."""
    with _driver_errors():
        replies = await pipeline.execute(raise_on_error=False)
        refused = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if refused is not None:
            raise refused
        return replies


async def _ask_values(connection: AbstractConnection, keys: list[bytes]) -> list[bytes | None]:
    """MGET; a reply of another shape or length costs the connection.

    Raises:
        StoreUnavailableError: no reply, an error reply, or ``protocol``.
    """
    reply = await _ask(connection, b"MGET", *keys)
    if isinstance(reply, list) and len(reply) == len(keys) and all(isinstance(value, bytes | None) for value in reply):
        return reply
    await connection.disconnect(nowait=True)
    raise StoreUnavailableError("protocol", f"MGET of {len(keys)} keys was not answered by as many values")


async def _ask(connection: AbstractConnection, *command: bytes) -> Any:
    """Send a command and read its reply. hiredis packs 1,000 keys in a third of the time that the driver takes."""
    with _driver_errors():
        await connection.send_packed_command(hiredis.pack_command(command))  # type: ignore[arg-type]
        return await connection.read_response()


def _pool(url: str, **options: Any) -> BlockingConnectionPool:
    """A pool for the URL; one connection is made, not opened, so that a wrong TLS option is refused here."""
    check_store_url(url)
    pool = BlockingConnectionPool(
        **parse_url(url),
        **options,
        health_check_interval=0,
        # RESP2 has no out-of-band messages, so bytes left over in a connection are always a fault; maintenance
        # notifications would switch off the driver's own refusal of such connections.
        protocol=2,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        driver_info=None,
        socket_read_size=1 << 16,
    )
    try:
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (driver.RedisError, TypeError, ValueError) as error:
        raise StoreSettingError(f"the store's URL has an option that cannot be used: {error}") from None
    return pool


@contextmanager
def _driver_errors(*, connecting: bool = False) -> Iterator[None]:
    """Whatever the driver raises becomes ``StoreUnavailableError``."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause.__cause__, driver.RedisError):  # connecting wraps the server's refusal in a general error
            cause = cause.__cause__
        raise StoreUnavailableError(_reason_of(cause, connecting=connecting), str(cause)) from error


def _reason_of(error: BaseException, *, connecting: bool) -> UnavailableReason:
    for kind, reason in _EXCEPTION_REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, driver.ResponseError):
        return "misconf" if str(error).startswith("MISCONF") else "unknown"
    if connecting and isinstance(error.__cause__, TimeoutError):
        return "pool_exhausted"
    if isinstance(error, driver.ConnectionError | OSError):
        said_no = getattr(error, "status_code", None) is not None  # an error reply, such as "max number of clients"
        never_met = isinstance(error.__context__, ConnectionRefusedError | FileNotFoundError | PermissionError)
        return "refused" if connecting or said_no or never_met else "disconnected"
    return "unknown"
