"""What the benchmarks compare with: redis-py as one begins with it, a hash per entity (or per entity and view) and a call each.

Nothing of the service uses this. Also how the benchmarks look into a server: commands it ran, CPU it used, a TCP port for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import redis
import redis.asyncio

from feature_store.redis.connections import driver_errors

Texts = dict[str, str]


class PlainHashes:
    """Two clients of the driver, blocking and asyncio, with its defaults but for decoded texts; errors are the driver's own."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, decode_responses=True)
        self._async_client = redis.asyncio.Redis.from_url(url, decode_responses=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()
        await self._async_client.aclose()

    def write(self, hashes: Mapping[str, Texts]) -> None:
        """Write hashes by key, in one pipeline."""
        pipeline = self._client.pipeline(transaction=False)
        for key, fields in hashes.items():
            pipeline.hset(key, mapping=cast(dict[Any, Any], fields))
        pipeline.execute()

    def loop(self, keys: Sequence[str]) -> list[Texts]:
        """One HGETALL after the other."""
        return [cast(Texts, self._client.hgetall(key)) for key in keys]

    async def async_loop(self, keys: Sequence[str]) -> list[Texts]:
        """One awaited HGETALL after the other."""
        return [cast(Texts, await self._async_client.hgetall(key)) for key in keys]

    def fields_loop(self, keys: Sequence[str], names: Sequence[str]) -> list[Texts]:
        """One HMGET of these fields after the other."""
        replies = [cast(list[str | None], self._client.hmget(key, names)) for key in keys]
        return [{name: text for name, text in zip(names, reply, strict=True) if text is not None} for reply in replies]

    def pipeline(self, keys: Sequence[str]) -> list[Texts]:
        """All HGETALLs in one pipeline."""
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(key)
        return cast(list[Texts], pipeline.execute())


class ServerGauge:
    """Looks into a single server; every method raises ``StoreUnavailableError`` where it does not answer.

    Its own commands count, too: those of name ``info`` are left out.
    """

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, decode_responses=True)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def calls(self) -> dict[str, int]:
        """How often the server ran each command since its start."""
        stats = self._info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}
        return {name: count for name, count in calls.items() if name != "info"}

    def cpu_s(self) -> float:
        """Seconds of CPU that the server used since its start."""
        used = self._info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

    def version(self) -> str:
        """The server's name and version."""
        server = self._info("server")
        return f"{server.get('server_name', 'redis')} {server.get('valkey_version', server['redis_version'])}"

    def count(self, key: bytes) -> int:
        """The integer under a key; 0 where there is none."""
        with driver_errors():
            return int(cast(str | None, self._client.get(key)) or 0)

    def listen(self, port: int) -> str:
        """Let the server listen on a port of loopback, too; the URL."""
        with driver_errors():
            self._client.config_set("bind", "127.0.0.1")
            self._client.config_set("port", port)
        return f"redis://127.0.0.1:{port}"

    def _info(self, section: str) -> dict[str, Any]:
        with driver_errors():
            stats: dict[str, Any] = self._client.info(section)
            return stats
