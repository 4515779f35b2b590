"""Bulk writes for materialization."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from feature_store.keys import KeySpace
from feature_store.redis.connections import open_pool, pipeline_replies


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
        pool = open_pool(
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
        await pipeline_replies(pipeline)

    async def count(self, keys: Sequence[bytes]) -> int:
        """How many of the keys the store holds, in one pipeline.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.exists(key)
        return sum(await pipeline_replies(pipeline))

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
