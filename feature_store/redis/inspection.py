"""A raw look at keys, whatever they hold: for people, not for requests.

Only reading commands are sent. What the server does not let its user ask (``TYPE``, ``STRLEN``, ``MEMORY USAGE``, ``PTTL``) is
left out; a value is cut behind the longest that a reader would accept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from redis import exceptions as driver

from feature_store.inspect import RawLook
from feature_store.redis.connections import driver_errors
from feature_store.redis.topology import Client, open_client
from feature_store.redis.value_replies import is_wrong_type


class RedisInspection:
    """Looks at keys one by one."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    def from_url(cls, url: str, *, timeout_s: float = 5.0) -> RedisInspection:
        """At the same URLs as ``RedisStore``.

        Raises:
            StoreSettingError: the URL cannot be used.
        """
        return cls(open_client(url, timeout_s=timeout_s, retries=0, max_connections=2))

    async def look(self, key: bytes, max_bytes: int) -> RawLook:
        """What is under a key.

        Raises:
            StoreUnavailableError: the server does not answer, or lets its user read nothing.
        """
        with driver_errors():
            kind = await _allowed(self._client.type(key))
            if kind == b"none":
                return RawLook(key)
            value, kind = await self._value(key, None if kind is None else kind.decode("ascii", "replace"), max_bytes)
            if value is None and kind in (None, "string"):
                return RawLook(key)
            lifetime_ms = await _allowed(self._client.pttl(key))
            return RawLook(
                key,
                kind=kind or "string",
                value=value,
                bytes=await _allowed(self._client.strlen(key)) if kind in (None, "string") else None,
                memory_bytes=await self.memory_bytes(key),
                expires_in_s=None if lifetime_ms is None or lifetime_ms < 0 else lifetime_ms / 1e3,
            )

    async def memory_bytes(self, key: bytes) -> int | None:
        """What the server says the key costs, its own bookkeeping included; None where it does not say."""
        with driver_errors():
            cost: int | None = await _allowed(self._client.memory_usage(key, samples=0))
            return cost

    async def look_at(self, keys: Sequence[tuple[bytes, int]]) -> list[RawLook]:
        """``look`` at several keys, each with the most bytes that a reader accepts of it."""
        return [await self.look(key, max_bytes) for key, max_bytes in keys]

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _value(self, key: bytes, kind: str | None, max_bytes: int) -> tuple[bytes | None, str | None]:
        """The value, one byte longer than ``max_bytes`` at most, and the type, if the attempt told more of it."""
        if kind not in (None, "string"):
            return None, kind
        try:
            try:
                value = await self._client.getrange(key, 0, max_bytes)
                if value or kind is not None:
                    return bytes(value), kind  # type: ignore[arg-type]  # bytes, as no client here decodes replies
            except driver.NoPermissionError:
                pass  # the service's own user has GET and MGET only
            return await self._client.execute_command("GET", key), kind
        except driver.ResponseError as error:
            if is_wrong_type(error):
                return None, "other"
            raise


async def _allowed(question: Awaitable[Any]) -> Any:
    """The answer, or None where the server refuses the question."""
    try:
        return await question
    except driver.ResponseError:
        return None
