"""Bulk writes for materialization."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from feature_store.keys import KeySpace
from feature_store.records import HistoryRecord
from feature_store.redis.changes import ItemChangesWriter
from feature_store.redis.connections import pipeline_replies
from feature_store.redis.script_pipelines import run_by_client
from feature_store.redis.scripts import MERGE_HISTORY, ScriptCall
from feature_store.redis.topology import Client, open_client

_encode = msgspec.msgpack.Encoder().encode


class RedisWriter:
    """Pipelined bulk writes for materialization: long timeouts, and retries, since a SET may safely come twice."""

    def __init__(self, client: Client, keys: KeySpace) -> None:
        self._client = client
        self.keys = keys
        self.item_changes = ItemChangesWriter(client, keys)

    @classmethod
    def from_url(cls, url: str, *, keys: KeySpace | None = None, timeout_s: float = 10.0, retries: int = 4) -> RedisWriter:
        """A writer at the same URLs as ``RedisStore``.

        Raises:
            StoreSettingError: the URL cannot be used.
        """
        client = open_client(url, timeout_s=timeout_s, retries=retries, max_connections=4)
        return cls(client, keys or KeySpace())

    async def write_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Set every key to its value in one pipeline; callers bound its size.

        Raises:
            StoreUnavailableError: some keys may be written, some not; writing all again is safe.
        """
        pipeline = self._client.pipeline(transaction=False)
        for key, value in pairs:
            pipeline.set(key, value)
        await pipeline_replies(pipeline)

    async def merge_histories(self, records: Sequence[HistoryRecord], length: int, *, replace: bool = False) -> None:
        """Merge each history of a batch into what live events have made of the stored one, in one step per user.

        The union is kept, its newest ``length`` events: an event is the same if item and time are. Versions never fall.

        Args:
            replace: the batch is the truth instead; what is stored goes.

        Raises:
            StoreUnavailableError: some may be merged, some not; merging all again is safe.
        """
        calls = [
            ScriptCall(
                MERGE_HISTORY,
                [self.keys.history(each.owner), self.keys.seen(each.owner)],
                [_merge_argument(each, length, replace)],
            )
            for each in records
        ]
        await run_by_client(self._client, calls)

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


def _merge_argument(record: HistoryRecord, length: int, replace: bool) -> bytes:
    return _encode((record.owner, record.written_at, length, replace, record.version, record.items, record.times))
