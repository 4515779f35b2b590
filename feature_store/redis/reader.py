"""Reading is built so that no request can meet another's data.

A command runs in a task that no caller can cancel, its reply is checked value by value before the connection goes back to the
pool, and a connection that delivered something strange never goes back alive. Nothing is retried: a caller's deadline is
shorter than any second try.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from feature_store.breaker import BreakerRule, CircuitBreaker
from feature_store.detached import DetachedCalls
from feature_store.errors import StoreUnavailableError
from feature_store.keys import KeySpace
from feature_store.redis.topology import Servers, open_servers
from feature_store.store_settings import ReadLimits
from feature_store.stored import StoredRecords, read_reply

ResultT = TypeVar("ResultT")


class RedisStore:
    """Reads one user and some items in one round trip."""

    def __init__(self, servers: Servers, keys: KeySpace, limits: ReadLimits, breaker: CircuitBreaker) -> None:
        self._servers = servers
        self._keys = keys
        self._calls = DetachedCalls(limits.outstanding)
        self._breaker = breaker

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        keys: KeySpace | None = None,
        limits: ReadLimits | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> RedisStore:
        """A store at any URL that ``store_address`` knows; nothing is connected before the first read.

        Raises:
            StoreSettingError: the URL cannot be used.
        """
        limits = limits or ReadLimits()
        return cls(open_servers(url, limits), keys or KeySpace(), limits, breaker or CircuitBreaker(BreakerRule()))

    async def read(self, user_id: str, item_ids: Sequence[str]) -> StoredRecords:
        """The user's features and history, and the items' features, in one round trip.

        That is two GETs and an MGET of the items, written at once; in a cluster, one such exchange with every node that holds
        some of the keys, all at the same time.

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
        await self._calls.run(lambda: self._reported(self._servers.ping))

    async def close(self) -> None:
        """Let the exchanges under way end (their timeouts bound the wait) and close every connection."""
        await self._calls.close()
        await self._servers.close()

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
        own = [self._keys.user(user_id), self._keys.history(user_id)]
        async with self._servers.held_values(own, [*map(self._keys.item, item_ids)]) as held:
            stored = read_reply(user_id, item_ids, held.values)
            if stored.mixed_up:
                await held.distrust()
            return stored
