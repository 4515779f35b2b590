"""What a store's URL leads to: one server, the master behind sentinels, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff

from feature_store.redis.cluster_reads import MAX_HOPS, ClusterReads
from feature_store.redis.connections import FIXED_OPTIONS, open_pool, setting_errors
from feature_store.redis.topology_node import AnswerT, ReadingOf, StoreNode
from feature_store.store_settings import ReadLimits, StoreAddress, store_address

Client = Redis | RedisCluster


class Servers(Protocol):
    """What the read path needs of a server, of the master behind sentinels, or of a cluster."""

    @property
    def shares_exchanges(self) -> bool:
        """Whether several callers' keys belong into one exchange: all go the same way, and fail or arrive together."""

    async def exchange(self, single: Sequence[bytes], many: Sequence[bytes], reading: ReadingOf[AnswerT]) -> AnswerT:
        """What ``reading`` makes of the values of the keys, in one round trip; the connections are held until it is done.

        ``single`` keys are told to be of a wrong type where they are, ``many`` keys of a wrong type count as absent. Where
        ``reading`` finds the values mixed up, the connections that brought them are dropped, and all others that may be.

        Raises:
            StoreUnavailableError: no usable answer.
        """

    async def ping(self) -> None:
        """Prove that the servers answer.

        Raises:
            StoreUnavailableError: one does not.
        """

    async def close(self) -> None:
        """Close every connection."""


def open_servers(url: str, limits: ReadLimits) -> Servers:
    """The servers at the URL, for reading: nothing is retried, every wait is bounded by ``limits``. Nothing is connected yet.

    Raises:
        StoreSettingError: the URL cannot be used.
    """
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": limits.connect_timeout_s,
        "socket_timeout": limits.read_timeout_s,
        "timeout": limits.pool_timeout_s,
        "max_connections": limits.connections,
    }
    address = store_address(url)
    if address.topology != "cluster":
        return StoreNode(open_pool(url, **options))
    seed = address.node_urls[0]
    open_pool(seed, **options)  # refuses options that no connection takes
    nodes = [parse_url(node_url) for node_url in address.node_urls]
    return ClusterReads(
        [(node["host"], node.get("port", 6379)) for node in nodes],
        lambda at: StoreNode(open_pool(seed, host=at[0], port=at[1], **options)),
        timeout_s=limits.connect_timeout_s + limits.read_timeout_s,
    )


class BoundedCluster(RedisCluster):
    """The driver's client, following five redirections of a command where the driver would follow sixteen."""

    RedisClusterRequestTTL = MAX_HOPS


def open_client(url: str, *, timeout_s: float, retries: int, max_connections: int) -> Client:
    """A client for writing, at any URL that ``store_address`` knows; nothing is connected before the first command.

    Commands are sent again up to ``retries`` times after a lost connection or a timeout, so only such may be sent as can
    safely come twice. Behind sentinels, and in a cluster, each try looks anew for where to go.

    Args:
        timeout_s: bounds a connection's opening, each reply, and the wait for a connection of the pool.
        max_connections: of the client; in a cluster, to each node.

    Raises:
        StoreSettingError: the URL cannot be used.
    """
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries)
    address = store_address(url)
    if address.topology == "cluster":
        return _open_cluster(address, timeout_s, retry, max_connections)
    pool = open_pool(
        url,
        retry=retry,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        timeout=timeout_s,
        max_connections=max_connections,
    )
    return Redis.from_pool(pool)


def is_cluster(client: Client) -> TypeGuard[RedisCluster]:
    """Whether the client is a cluster's, where the keys of one command or script must share a hash tag."""
    return isinstance(client, RedisCluster)


def _open_cluster(address: StoreAddress, timeout_s: float, retry: Retry, max_connections: int) -> RedisCluster:
    open_pool(address.node_urls[0])  # refuses options that no connection takes
    nodes = [parse_url(node_url) for node_url in address.node_urls]
    shared: dict[str, Any] = {
        name: value for name, value in nodes[0].items() if name not in ("host", "port", "connection_class")
    }
    with setting_errors():
        return BoundedCluster(
            startup_nodes=[ClusterNode(node["host"], node.get("port", 6379)) for node in nodes],
            ssl=nodes[0].get("connection_class") is SSLConnection,
            retry=retry,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            max_connections=max_connections,
            **FIXED_OPTIONS,
            **shared,
        )
