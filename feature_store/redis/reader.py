"""Reading is built so that no request can meet another's data.

Callers that wait anyway share an exchange (``feature_store.coalescing``), each with an answer of its own. It runs in a task
that no caller can cancel, its reply is checked value by value before the connection goes back to the pool, and a connection
that delivered something strange never goes back alive. Nothing is retried: a caller's deadline is shorter than any second try.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from feature_store.breaker import BreakerRule, CircuitBreaker
from feature_store.coalescing import Coalescer, CoalescingRule, Question, never_busy
from feature_store.detached import DetachedCalls
from feature_store.errors import StoreUnavailableError
from feature_store.keys import KeySpace
from feature_store.redis.topology import Servers, open_servers
from feature_store.store_settings import ReadLimits
from feature_store.stored import StoredRecords, read_shared_reply

ResultT = TypeVar("ResultT")
_EXCHANGES = 8
_PINGS = 8


class RedisStore:
    """Reads one user and some items in one round trip."""

    def __init__(
        self,
        servers: Servers,
        keys: KeySpace,
        limits: ReadLimits,
        breaker: CircuitBreaker,
        busy: Callable[[], bool] = never_busy,
    ) -> None:
        self._servers = servers
        self._keys = keys
        self._pings = DetachedCalls(_PINGS)
        self._breaker = breaker
        self._reads = Coalescer(self._exchange, _coalescing(servers, limits), breaker, busy)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        keys: KeySpace | None = None,
        limits: ReadLimits | None = None,
        breaker: CircuitBreaker | None = None,
        busy: Callable[[], bool] = never_busy,
    ) -> RedisStore:
        """A store at any URL that ``store_address`` knows; nothing is connected before the first read.

        Args:
            busy: whether whoever reads has to wait for other work anyway; reads then gather a little before they leave.

        Raises:
            StoreSettingError: the URL cannot be used.
        """
        limits = limits or ReadLimits()
        return cls(open_servers(url, limits), keys or KeySpace(), limits, breaker or CircuitBreaker(BreakerRule()), busy)

    async def read(self, user_id: str, item_ids: Sequence[str], timeout_s: float | None = None) -> StoredRecords:
        """The user's features and history, and the items' features, in one round trip, which other callers may share.

        That is two GETs for each caller and an MGET of all items, written at once; in a cluster, where nothing is shared, one
        such exchange with every node that holds some of the keys, all at the same time.

        Cancelling the caller leaves the exchange running to its own timeout.

        Args:
            timeout_s: when the caller gives up; the exchange has timeouts of its own (``ReadLimits``).

        Raises:
            StoreUnavailableError: no usable answer; ``reason`` says why.
        """
        if not self._breaker.permits():
            raise StoreUnavailableError("circuit_open")
        return await self._reads.ask(user_id, item_ids, timeout_s)

    async def ping(self) -> None:
        """Prove that the store answers; heard by the circuit breaker, but never held back by it.

        Raises:
            StoreUnavailableError: it does not.
        """
        await self._pings.run(lambda: self._reported(self._servers.ping()))

    async def close(self) -> None:
        """Let the exchanges under way end (their timeouts bound the wait) and close every connection."""
        await self._reads.close()
        await self._pings.close()
        await self._servers.close()

    async def _reported(self, exchange: Awaitable[ResultT]) -> ResultT:
        """Await an exchange and tell the circuit breaker how it went."""
        try:
            result = await exchange
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

    async def _exchange(self, questions: Sequence[Question]) -> Sequence[StoredRecords]:
        keys = self._keys
        own: list[bytes] = []
        items: list[bytes] = []
        asked: list[tuple[str, Sequence[str]]] = []
        for question in questions:
            own += (keys.user(question.user_id), keys.history(question.user_id))
            items += map(keys.item, question.item_ids)
            asked.append((question.user_id, question.item_ids))
        return await self._reported(self._servers.exchange(own, items, partial(read_shared_reply, asked)))


def _coalescing(servers: Servers, limits: ReadLimits) -> CoalescingRule:
    """Where nothing is shared each question leaves at once, and waits for a connection on its own."""
    if not servers.shares_exchanges:
        return CoalescingRule(limits.outstanding, limits.outstanding, limits.pool_timeout_s, questions=1)
    return CoalescingRule(min(_EXCHANGES, limits.connections), limits.outstanding, limits.pool_timeout_s)
