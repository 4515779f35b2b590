"""Reads what the store says of events, as bytes and msgpack: an auditor does not borrow the books of the audited."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
import redis

from loadtest.chaos.event_audit import Found, FoundHistory, LogEntry
from loadtest.chaos.made_events import MadeEvent

LOG = "rankline:{events}:log"
_PAGE = 2_000
_SEAL_BYTES = 8
_ARRAYS = 0x80
"""From here on a first byte is an array's; a digit is less."""
_unpack = msgspec.msgpack.decode
ValueT = TypeVar("ValueT")


def read_books(client: redis.Redis, user_prefix: str, item_prefix: str) -> Found:
    """The log, histories and counters of every user whose id starts with the prefix, and the counters of such items."""
    return Found(
        log=[entry for entry in _log(client) if entry.event.user_id.startswith(user_prefix)],
        histories=dict(_records(client, "history", user_prefix, _history)),
        counts=dict(_records(client, "user-counters", user_prefix, _counts)),
        item_counts=dict(_records(client, "item-counters", item_prefix, _counts)),
    )


def memory_of_user(client: redis.Redis, user_id: str) -> dict[str, int]:
    """Bytes of each key that the user has, by its kind."""
    kinds = ("user", "history", "seen", "user-counters")
    used = {kind: client.memory_usage(f"rankline:{kind}:{{{user_id}}}", samples=0) for kind in kinds}
    return {kind: int(size) for kind, size in used.items() if size}


def read_history(client: redis.Redis, user_id: str) -> FoundHistory | None:
    """One user's history."""
    value: Any = client.get(f"rankline:history:{{{user_id}}}")
    return None if value is None else _history(_unsealed(value))


def _log(client: redis.Redis) -> Iterator[LogEntry]:
    after = "-"
    while True:
        page: Any = client.xrange(LOG, after, "+", _PAGE)
        for _, fields in page:
            yield _entry(fields)
        if len(page) < _PAGE:
            return
        after = f"({page[-1][0].decode()}"


def _entry(fields: dict[bytes, bytes]) -> LogEntry:
    event = _unpack(fields[b"e"])
    _schema, event_id, user_id, item_id, kind, time, *_rest = event
    made = MadeEvent(event_id, user_id, item_id, kind, float(time))
    return LogEntry(int(fields[b"n"]), made, int(fields[b"v"]), fields[b"h"] == b"1")


def _unsealed(value: bytes) -> Any:
    """A record, behind eight digits of its SHA-1 or without; None where it is broken."""
    try:
        if value[0] < _ARRAYS:
            seal, value = value[:_SEAL_BYTES], value[_SEAL_BYTES:]
            if hashlib.sha1(value, usedforsecurity=False).hexdigest()[:_SEAL_BYTES].encode() != seal:
                return None
        return _unpack(value)
    except (msgspec.DecodeError, IndexError):
        return None


def _history(record: Any) -> FoundHistory:
    """A broken one has a version that no audit lets pass."""
    if record is None:
        return FoundHistory(-1, [], [])
    _schema, _owner, version, _written_at, items, times = record
    # An empty table of the server's language has no telling whether it is a list.
    return FoundHistory(int(version), list(items), [float(time) for time in times])


def _counts(record: Any) -> dict[str, int]:
    return {"broken": 1} if record is None else {kind: int(count) for kind, (count, *_) in dict(record[3]).items()}


def _records(client: redis.Redis, kind: str, prefix: str, read: Callable[[Any], ValueT]) -> Iterator[tuple[str, ValueT]]:
    for keys in _pages(client.scan_iter(match=f"rankline:{kind}:*{prefix}*", count=_PAGE)):
        values: Any = client.mget(keys)
        for key, value in zip(keys, values, strict=True):
            owner = unquote(key.decode().partition("{")[2].removesuffix("}"))
            if value is not None and owner.startswith(prefix):
                yield owner, read(_unsealed(value))


def _pages(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    page: set[bytes] = set()
    seen: set[bytes] = set()
    for key in keys:
        if key not in seen:  # a scan may tell a key twice
            seen.add(key)
            page.add(key)
        if len(page) == _PAGE:
            yield sorted(page)
            page = set()
    if page:
        yield sorted(page)
