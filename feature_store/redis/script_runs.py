"""Running server-side steps so that a marker is only set by a server that has seen them.

A server may die and come back, without its last writes, between a step and the marker behind it. On one server both go over the
same connection, which does not survive the server. A cluster is asked before the marker is set whether its masters are still
the ones that were there before the steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import hiredis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError

from feature_store.errors import StoreRewoundError
from feature_store.redis.connections import ask, driver_errors, open_pool
from feature_store.redis.scripts import ScriptCall
from feature_store.redis.topology import Client, is_cluster, open_client
from feature_store.redis.topology_node import StoreNode
from feature_store.store_settings import store_address

_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Marker:
    """A key that must hold ``before`` (None: nothing) and is set to ``after``."""

    key: bytes
    before: int | None
    after: int


class ScriptRuns(Protocol):
    """Runs scripts on some topology."""

    separate_items: bool
    """Whether a script may only touch keys of one hash tag."""

    async def run(self, calls: Sequence[ScriptCall], marker: Marker | None = None) -> list[Any]:
        """The replies, in order; the marker moves once all scripts have run.

        Raises:
            StoreUnavailableError: some scripts may have run; the marker did not move.
            StoreRewoundError: the marker does not hold what it must. Scripts may have run; it did not move.
        """

    async def marked(self, key: bytes) -> int | None:
        """What a marker holds; None also when the servers are not the ones they were at the last question.

        Raises:
            StoreUnavailableError: no answer.
        """

    async def close(self) -> None: ...


class NodeScripts:
    """On one server, or the master behind sentinels."""

    separate_items = False

    def __init__(self, node: StoreNode) -> None:
        self._node = node

    async def run(self, calls: Sequence[ScriptCall], marker: Marker | None = None) -> list[Any]:
        """See ``ScriptRuns.run``."""
        async with self._node.borrowed() as connection:
            if marker is not None:
                _check_marker(marker, await ask(connection, b"GET", marker.key))
            replies = await _ask_many(connection, (_by_digest(call) for call in calls))
            unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            again = await _ask_many(connection, (_by_source(calls[place]) for place in unknown))
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
            _raise_refusals(replies)
            if marker is not None:
                await ask(connection, b"SET", marker.key, b"%d" % marker.after)
            return replies

    async def marked(self, key: bytes) -> int | None:
        """See ``ScriptRuns.marked``."""
        async with self._node.borrowed() as connection:
            return _number(await ask(connection, b"GET", key))

    async def close(self) -> None:
        """Close every connection."""
        await self._node.close()


class ClusterScripts:
    """On a cluster."""

    separate_items = True

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        self._masters: frozenset[str] | None = None

    async def run(self, calls: Sequence[ScriptCall], marker: Marker | None = None) -> list[Any]:
        """See ``ScriptRuns.run``."""
        with driver_errors():
            before = self._masters = self._masters or await self._running_masters()
            replies = await run_by_client(self._client, calls)
            if marker is not None:
                self._masters = await self._running_masters()
                if self._masters != before:
                    raise StoreRewoundError(None)
                _check_marker(marker, await self._client.get(marker.key))
                await self._client.set(marker.key, marker.after)
            return replies

    async def marked(self, key: bytes) -> int | None:
        """See ``ScriptRuns.marked``."""
        with driver_errors():
            before, self._masters = self._masters, await self._running_masters()
            if before is not None and before != self._masters:
                return None
            return _number(await self._client.get(key))

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _running_masters(self) -> frozenset[str]:
        """The masters' run ids: another one means that a server was started anew, or that a replica took over."""
        infos = await self._client.execute_command("INFO", "server", target_nodes=RedisCluster.PRIMARIES)
        answers = [infos] if "run_id" in infos else infos.values()
        return frozenset(str(info["run_id"]) for info in answers)


async def run_by_client(client: Client, calls: Sequence[ScriptCall]) -> list[Any]:
    """Run scripts in the pipelines of a client, whose retries it follows: each may run more than once.

    Raises:
        StoreUnavailableError: some may have run.
    """
    with driver_errors():
        replies = await _pipelined(client, map(_by_digest, calls))
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        again = await _pipelined(client, (_by_source(calls[place]) for place in unknown))
        for place, reply in zip(unknown, again, strict=True):
            replies[place] = reply
        _raise_refusals(replies)
        return replies


async def _pipelined(client: Client, commands: Iterable[tuple[bytes, ...]]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return await pipeline.execute(raise_on_error=False)


def open_scripts(url: str, timeout_s: float) -> ScriptRuns:
    """Script runs at any URL of a store; nothing is connected before the first one, and nothing is tried twice.

    Args:
        timeout_s: bounds a connection's opening and each reply.

    Raises:
        StoreSettingError: the URL cannot be used.
    """
    if store_address(url).topology == "cluster":
        client = open_client(url, timeout_s=timeout_s, retries=0, max_connections=_CONNECTIONS)
        assert is_cluster(client)
        return ClusterScripts(client)
    pool = open_pool(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        timeout=timeout_s,
        max_connections=_CONNECTIONS,
    )
    return NodeScripts(StoreNode(pool))


def _by_digest(call: ScriptCall) -> tuple[bytes, ...]:
    return (b"EVALSHA", call.script.sha1.encode(), b"%d" % len(call.keys), *call.keys, *call.arguments)


def _by_source(call: ScriptCall) -> tuple[bytes, ...]:
    return (b"EVAL", call.script.source.encode(), b"%d" % len(call.keys), *call.keys, *call.arguments)


async def _ask_many(connection: AbstractConnection, commands: Iterable[tuple[bytes, ...]]) -> list[Any]:
    """Send all, then read all; an error reply stands in its place as the error that it is."""
    packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
    replies: list[Any] = []
    if not packed:
        return replies
    with driver_errors():
        await connection.send_packed_command(b"".join(packed))
        for _ in packed:
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
    return replies


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, bytes) and value.isdigit() else None


def _check_marker(marker: Marker, value: object) -> None:
    found = _number(value)
    if found != marker.before:
        raise StoreRewoundError(found)


def _raise_refusals(replies: Sequence[Any]) -> None:
    refused = next((reply for reply in replies if isinstance(reply, Exception)), None)
    if refused is not None:
        with driver_errors():
            raise refused
