"""What the benchmarks compare with: this project's records read by redis-py's asyncio client as it is, bytes and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, cast

import redis.asyncio

Values = list[bytes | None]


class PlainRecords:
    """The driver's client with its defaults; nothing is decoded or checked; errors are the driver's own."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def mget(self, keys: Sequence[bytes]) -> Values:
        """One MGET."""
        return cast(Values, await self._client.mget(keys))

    async def gets(self, keys: Sequence[bytes]) -> Values:
        """One GET a key, all in one pipeline."""
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.get(key)
        return cast(Values, await pipeline.execute())
