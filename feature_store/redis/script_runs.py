"""Running server-side steps so that a marker is only set by a server that has seen them.

A server may die and come back, without its last writes, between a step and the marker behind it, or be emptied. On one server
both go over the same connection, which does not survive the server, and the marker moves only if it still is what it was. A
cluster's marker also names the data sets (replication ids) of all masters as of when it was set: it moves only if they are
still the same ones. Once they are not, its number is told as one of other servers: they may have less than it says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import hiredis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from feature_store.errors import StoreRewoundError, StoreUnavailableError
from feature_store.events.ports import Standing
from feature_store.redis.connections import ask, driver_errors, open_pool
from feature_store.redis.script_pipelines import Command, run_by_client, run_scripts
from feature_store.redis.scripts import MOVE_MARK, ScriptCall
from feature_store.redis.topology import is_cluster, open_client
from feature_store.redis.topology_node import StoreNode
from feature_store.store_settings import store_address

_CONNECTIONS = 4
_MASTERS_BYTES = 8
_MAX_DIGITS = 19

Following = Callable[[Sequence[Any]], Sequence[ScriptCall]]


@dataclass(frozen=True, slots=True)
class Marker:
    """A key that must hold ``before`` and is set to ``after``; ``before`` None: it must hold nothing (in a cluster: nothing of
    the masters that there are), and is set to ``start`` first."""

    key: bytes
    before: int | None
    after: int
    start: int = 0


class ScriptRuns(Protocol):
    """Runs scripts on some topology; for many markers at a time."""

    separate_items: bool
    """Whether a script may only touch keys of one hash tag."""

    async def run(self, calls: Sequence[ScriptCall], marker: Marker, following: Following | None = None) -> list[Any]:
        """The replies, in order; ``following`` makes further calls of them. The marker moves once all scripts have run.

        Raises:
            StoreUnavailableError: some scripts may have run; the marker did not move.
            StoreRewoundError: the marker does not hold what it must. Scripts may have run; it did not move.
        """

    async def marked(self, key: bytes) -> Standing:
        """What a marker holds, and whether it was set on other servers than there are now.

        Raises:
            StoreUnavailableError: no answer.
        """

    async def close(self) -> None: ...


class NodeScripts:
    """On one server, or the master behind sentinels."""

    separate_items = False

    def __init__(self, node: StoreNode) -> None:
        self._node = node

    async def run(self, calls: Sequence[ScriptCall], marker: Marker, following: Following | None = None) -> list[Any]:
        """See ``ScriptRuns.run``."""
        async with self._node.borrowed() as connection:
            found = _number(await ask(connection, b"GET", marker.key))
            if found != marker.before:
                raise StoreRewoundError(found)
            if found is None:  # a server that is emptied from now on will have lost this
                found = marker.start
                await ask(connection, b"SET", marker.key, b"%d" % found)
            replies = await _run(connection, calls)
            if following is not None:
                await _run(connection, following(replies))
            (was,) = await _run(connection, [_move(marker.key, b"%d" % found, b"%d" % marker.after)])
            if _number(was) != found:
                raise StoreRewoundError(_number(was))
            return replies

    async def marked(self, key: bytes) -> Standing:
        """See ``ScriptRuns.marked``."""
        async with self._node.borrowed() as connection:
            return Standing(_number(await ask(connection, b"GET", key)))

    async def close(self) -> None:
        """Close every connection."""
        await self._node.close()


class ClusterScripts:
    """On a cluster. That one of its masters alone is emptied by hand is not noticed."""

    separate_items = True

    def __init__(self, client: RedisCluster) -> None:
        self._client = client

    async def run(self, calls: Sequence[ScriptCall], marker: Marker, following: Following | None = None) -> list[Any]:
        """See ``ScriptRuns.run``."""
        with driver_errors():
            held: Any = await self._client.get(marker.key)
            found, masters = _parts(held)
            if marker.before is None:
                found, masters = marker.start, await self._masters()
                held = _joined(found, masters)
                await self._client.set(marker.key, held)
            elif found != marker.before:
                raise _rewound(held, await self._masters())
            replies = await run_by_client(self._client, calls)
            if following is not None:
                await run_by_client(self._client, following(replies))
            if (masters_now := await self._masters()) != masters:
                raise _rewound(held, masters_now)
            (was,) = await run_by_client(self._client, [_move(marker.key, held, _joined(marker.after, masters))])
            if was != held:
                raise _rewound(was, masters)
            return replies

    async def marked(self, key: bytes) -> Standing:
        """See ``ScriptRuns.marked``."""
        with driver_errors():
            masters = await self._masters()
            return _standing(await self._client.get(key), masters)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _masters(self) -> bytes:
        """A digest of the masters' replication ids: another one where a master was started anew or a replica took over.

        Raises:
            StoreUnavailableError: one is no master any more.
        """
        infos = await self._client.execute_command("INFO", "replication", target_nodes=RedisCluster.PRIMARIES)
        answers = [infos] if "role" in infos else list(infos.values())
        if any(info["role"] != "master" for info in answers):
            await self._client.aclose()  # the next try looks anew who the masters are
            raise StoreUnavailableError("cluster_down", "a master has become a replica")
        ids = "".join(sorted(str(info["master_replid"]) for info in answers))
        return hashlib.blake2b(ids.encode(), digest_size=_MASTERS_BYTES).hexdigest().encode()


def _move(key: bytes, before: bytes, after: bytes) -> ScriptCall:
    return ScriptCall(MOVE_MARK, [key], [before, after])


def _joined(number: int, masters: bytes) -> bytes:
    return b"%d %s" % (number, masters)


def _parts(value: object) -> tuple[int | None, bytes]:
    """A cluster's mark: the number, and the digest of the masters it was set by."""
    number, _, masters = value.partition(b" ") if isinstance(value, bytes) else (b"", b"", b"")
    return (_number(number), masters) if masters else (None, b"")


def _standing(value: object, masters: bytes) -> Standing:
    """A cluster's mark as seen by the masters that there are."""
    number, of = _parts(value)
    return Standing(number, servers_changed=number is not None and of != masters)


def _rewound(value: object, masters: bytes) -> StoreRewoundError:
    standing = _standing(value, masters)
    return StoreRewoundError(standing.number, servers_changed=standing.servers_changed)


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, bytes) and value.isdigit() and len(value) < _MAX_DIGITS else None


async def _run(connection: AbstractConnection, calls: Sequence[ScriptCall]) -> list[Any]:
    return await run_scripts(partial(_ask_many, connection), calls)


async def _ask_many(connection: AbstractConnection, commands: Iterable[Command]) -> list[Any]:
    """Send all, then read all; an error reply stands in its place as the error that it is.

    Anything else that goes wrong, a cancellation included, costs the connection: replies may still be on their way.
    """
    packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
    replies: list[Any] = []
    if not packed:
        return replies
    try:
        with driver_errors():
            await connection.send_packed_command(b"".join(packed))
            for _ in packed:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return replies


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
