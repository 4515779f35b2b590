"""Reading the event log: the stream of applied events, in chunks."""

from __future__ import annotations

from typing import Any

from feature_store.errors import StoreUnavailableError
from feature_store.events.log import LOG_START, LogEntry, LogReading, read_entry
from feature_store.keys import KeySpace
from feature_store.redis.connections import driver_errors
from feature_store.redis.topology import Client, open_client

_CHUNK = 1_000


class EventLogReader:
    """Reads only; with long timeouts and retries, since nothing waits for it."""

    def __init__(self, client: Client, keys: KeySpace) -> None:
        self._client = client
        self._keys = keys

    @classmethod
    def from_url(cls, url: str, *, keys: KeySpace | None = None, timeout_s: float = 10.0, retries: int = 4) -> EventLogReader:
        """A reader at the same URLs as ``RedisStore``.

        Raises:
            StoreSettingError: the URL cannot be used.
        """
        return cls(open_client(url, timeout_s=timeout_s, retries=retries, max_connections=2), keys or KeySpace())

    async def read(self, after_id: str, count: int) -> list[LogEntry]:
        """At most ``count`` entries after the one called ``after_id``, in the log's order; fewer only at its end.

        Raises:
            StoreUnavailableError: the store does not answer, or with something else than a stream.
        """
        return await self._range(f"({after_id}", "+", count)

    async def read_all(self, after_id: str = LOG_START, *, chunk: int = _CHUNK) -> LogReading:
        """Everything after ``after_id``, and what is needed to tell whether something is missing.

        Raises:
            StoreUnavailableError: as in ``read``.
        """
        ever = await self._ever()  # asked first: what is logged meanwhile is no gap
        before = 0 if after_id == LOG_START else await self._number_at(after_id)
        entries: list[LogEntry] = []
        last = after_id
        while found := await self.read(last, chunk):
            entries += found
            last = found[-1].id
            if len(found) < chunk:
                break
        return LogReading(entries, before, ever)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _number_at(self, entry_id: str) -> int | None:
        found = await self._range(entry_id, entry_id, 1)
        return found[0].number or None if found else None

    async def _ever(self) -> int | None:
        with driver_errors():
            value = await self._client.get(self._keys.event_count)
        return int(value) if isinstance(value, bytes) and value.isdigit() else None

    async def _range(self, first: str, last: str, count: int) -> list[LogEntry]:
        with driver_errors():
            # The driver's types know no exclusive bounds.
            reply: Any = await self._client.xrange(self._keys.event_log, first, last, count)
        if not isinstance(reply, list):
            raise StoreUnavailableError("protocol", "XRANGE was not answered by a list of entries")
        return [read_entry(entry_id, fields or {}) for entry_id, fields in reply]
