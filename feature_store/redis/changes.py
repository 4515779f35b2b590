"""Which items have changed: writers tell it in a capped stream, and every process that caches items follows.

An entry is ``n`` (a running number) and ``ids`` (a msgpack list of item ids). ``n`` is one more than the newest entry's, in the
same server-side step that appends it, so it has no gaps, and needs no key beside the stream. A reader that meets another
number than the next one has missed something: the stream was trimmed past it, or belongs to another store than before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from feature_store.detached import DetachedCalls
from feature_store.keys import KeySpace
from feature_store.redis.connections import driver_errors, pipeline_replies
from feature_store.redis.topology import Client, open_client

ENTRY_IDS = 500
KEPT_ENTRIES = 2_000
"""A million ids: what a reader may be behind before it has to read all it holds anew."""
_READ_ENTRIES = 20

_APPEND = """
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local number = newest[1] and string.match(newest[1][2][2], '^%d+$') or '0'
number = #number <= 15 and tonumber(number) or 0
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'n', string.format('%d', number + 1), 'ids', ARGV[2])
"""

_Entry = tuple[bytes, dict[bytes, bytes] | None]
_ids_decoder = msgspec.msgpack.Decoder(Annotated[list[str], msgspec.Meta(max_length=ENTRY_IDS)])


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """The last entry that was read: its id in the stream, and its number."""

    entry_id: bytes
    number: int


_START = StreamPosition(b"0-0", 0)


@dataclass(frozen=True, slots=True)
class Changes:
    """Items that were written anew since the position before ``position``.

    ``gap``: there were more, of which nothing is known. ``more``: the next ones are there to be read at once.
    """

    ids: tuple[str, ...]
    position: StreamPosition
    gap: bool
    more: bool


class ItemChangesWriter:
    """Announces items; a second announcement of the same ones does no harm."""

    def __init__(self, client: Client, keys: KeySpace) -> None:
        self._client = client
        self._key = keys.item_changes

    async def announce(self, item_ids: Sequence[str]) -> None:
        """Tell that these items were written: after writing them, so that a reader who hears it reads the new values.

        Raises:
            StoreUnavailableError: some may not have been told; announcing all again is safe.
        """
        for start in range(0, len(item_ids), ENTRY_IDS):
            ids = msgspec.msgpack.encode(list(item_ids[start : start + ENTRY_IDS]))
            with driver_errors():
                await self._client.eval(_APPEND, 1, self._key, KEPT_ENTRIES, ids)


class ItemChanges:
    """Reads the announcements, over connections of its own; a cancelled caller leaves the exchange running to its end."""

    def __init__(self, client: Client, keys: KeySpace) -> None:
        self._client = client
        self._key = keys.item_changes
        self._calls = DetachedCalls(2)

    @classmethod
    def from_url(cls, url: str, *, keys: KeySpace | None = None, timeout_s: float = 1.0) -> ItemChanges:
        """A reader at the same URLs as ``RedisStore``; nothing is connected before the first read.

        Args:
            timeout_s: bounds a connection's opening and each reply; nothing is retried.

        Raises:
            StoreSettingError: the URL cannot be used.
        """
        return cls(open_client(url, timeout_s=timeout_s, retries=0, max_connections=2), keys or KeySpace())

    async def read(self, after: StreamPosition | None) -> Changes:
        """What was announced after a position; without one, a gap that ends at the newest entry.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        return await self._calls.run(lambda: self._read(after))

    async def close(self) -> None:
        """Let the exchange under way end and close every connection."""
        await self._calls.close()
        await self._client.aclose()

    async def _read(self, after: StreamPosition | None) -> Changes:
        # The newest is asked for first: what is appended in between is then merely read again, never skipped.
        pipeline = self._client.pipeline(transaction=False)
        pipeline.xrevrange(self._key, count=1)
        if after is not None:
            pipeline.xrange(self._key, min=b"(" + after.entry_id, count=_READ_ENTRIES)
        replies: list[Any] = await pipeline_replies(pipeline)
        newest = _position_of(replies[0])
        if after is None:
            return Changes((), newest, gap=True, more=False)
        return _changes(after, newest, replies[1])


def _position_of(entries: Sequence[_Entry]) -> StreamPosition:
    """The position of the first entry; an entry that is none of ours has the number 0."""
    if not entries:
        return _START
    entry_id, fields = entries[0]
    number = (fields or {}).get(b"n", b"")
    return StreamPosition(entry_id, int(number) if number.isdigit() and len(number) <= 15 else 0)


def _changes(after: StreamPosition, newest: StreamPosition, entries: Sequence[_Entry]) -> Changes:
    """The ids of entries that follow the position number by number; anything else is a gap, and reading goes on at its end."""
    if not entries:
        return Changes((), newest, gap=newest != after, more=False)
    ids: list[str] = []
    position = after
    for entry in entries:
        following = _position_of([entry])
        named = _ids_of(entry)
        if following.number != position.number + 1 or named is None:
            return Changes((), newest, gap=True, more=False)
        ids.extend(named)
        position = following
    return Changes(tuple(dict.fromkeys(ids)), position, gap=False, more=position.number < newest.number)


def _ids_of(entry: _Entry) -> list[str] | None:
    """The ids of an entry; None when it is none of ours."""
    try:
        ids: list[str] = _ids_decoder.decode((entry[1] or {}).get(b"ids", b""))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return ids
