"""Connections to the store: how they are opened, asked, and how everything the driver raises is told.

RESP2, no retries of the driver's own on reads, no health checks, no maintenance notifications: bytes left over in a connection
are always a fault, and the driver's refusal of such connections stays on.

The least that a server's user must be allowed to read and write records, as Redis ACL rules (``rankline`` is the key prefix)::

    ACL SETUSER rankline on >PASSWORD resetchannels ~rankline:* +get +mget +exists +set +ping +select
    to apply, merge and export live events and to follow changed items, also +eval +evalsha +del +incr +expire
        +xadd +xlen +xrange +xrevrange +zadd +zscore +zrevrange +zremrangebyrank, and in a cluster +info
    behind sentinels, also +role; in a cluster, also +cluster|slots +asking +command
    on the sentinels themselves: ACL SETUSER watcher on >PASSWORD +sentinel|get-master-addr-by-name
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import hiredis
from redis import exceptions as driver
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterPipeline
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from feature_store.errors import FeatureStoreError, StoreSettingError, StoreUnavailableError, UnavailableReason
from feature_store.redis.sentinel import LOOK_AGAIN_S, SENTINEL_PORT, DemotedMasterError, MasterPool, Sentinels
from feature_store.redis.topology_lookup import Lookup
from feature_store.store_settings import StoreAddress, store_address

_EXCEPTION_REASONS: tuple[tuple[type[Exception], UnavailableReason], ...] = (
    (driver.BusyLoadingError, "loading"),
    (driver.AuthenticationError, "noauth"),
    (driver.AuthenticationWrongNumberOfArgsError, "noauth"),
    (driver.AuthorizationError, "noauth"),
    (driver.NoPermissionError, "noauth"),
    (driver.ReadOnlyError, "readonly"),
    (DemotedMasterError, "readonly"),
    (driver.OutOfMemoryError, "oom"),
    (driver.MaxConnectionsError, "pool_exhausted"),
    (driver.InvalidResponse, "protocol"),
    (driver.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (driver.MasterDownError, "unknown"),  # of a replica; the driver calls it a cluster's error
    (driver.ClusterError, "cluster_down"),
    (driver.RedisClusterException, "cluster_down"),
)
FIXED_OPTIONS: Mapping[str, Any] = {
    "health_check_interval": 0,
    # RESP2 has no out-of-band messages, so bytes left over in a connection are always a fault; maintenance
    # notifications would switch off the driver's own refusal of such connections.
    "protocol": 2,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    "driver_info": None,
    "socket_read_size": 1 << 16,
}


async def ask(connection: AbstractConnection, *command: bytes) -> Any:
    """Send a command and read its reply. hiredis packs 1,000 keys in a third of the time that the driver takes.

    Anything but a sound reply, a cancellation included, costs the connection: the reply may still be on its way.
    """
    try:
        with driver_errors():
            await connection.send_packed_command(hiredis.pack_command(command))  # type: ignore[arg-type]
            return await connection.read_response()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


def open_pool(url: str, *, host: str | None = None, port: int | None = None, **options: Any) -> BlockingConnectionPool:
    """A pool for one server, or for the master that sentinels name.

    Nothing is connected yet; one connection is made, not opened, so that a wrong TLS option is refused here.

    Args:
        host, port: another server than the URL's, with the same credentials and options: a node of a cluster.

    Raises:
        StoreSettingError: the URL cannot be used, or is a cluster's, which has a pool for every node.
    """
    address = store_address(url)
    if address.topology == "cluster":
        raise StoreSettingError("the store's URL is a cluster's, where one of a single server is needed")
    with setting_errors():
        server = {**parse_url(address.node_urls[0]), **FIXED_OPTIONS, **options}
        if host is not None:
            server.update(host=host, port=port)
        pool = _master_pool(address, server) if address.topology == "sentinel" else BlockingConnectionPool(**server)
        pool.make_connection()  # type: ignore[no-untyped-call]
    return pool


def _master_pool(address: StoreAddress, server: dict[str, Any]) -> MasterPool:
    """``server``: the options of a connection to the master, but for where it is."""
    tls = server.pop("connection_class", None) is SSLConnection
    pool_options = {name: server.pop(name) for name in ("max_connections", "timeout") if name in server}
    watcher = {name: value for name, value in server.items() if name not in ("host", "port", "username", "password", "db")}
    watcher |= {**dict(address.sentinel_credentials), "retry": Retry(NoBackoff(), 0)}
    where = [parse_url(node_url) for node_url in address.node_urls]
    sentinels = [
        partial(SSLConnection if tls else Connection, host=at["host"], port=at.get("port", SENTINEL_PORT), **watcher)
        for at in where
    ]
    for sentinel in sentinels:
        sentinel()  # made, not opened
    asked = Sentinels(address.service, sentinels, timeout_s=server["socket_connect_timeout"] / 2)
    return MasterPool(lookup=Lookup(asked.master, pause_s=LOOK_AGAIN_S), tls=tls, **server, **pool_options)


@contextmanager
def setting_errors() -> Iterator[None]:
    """What the driver says of options that it cannot use becomes ``StoreSettingError``."""
    try:
        yield
    except (driver.RedisError, driver.RedisClusterException, TypeError, ValueError) as error:
        raise StoreSettingError(f"the store's URL has an option that cannot be used: {error}") from None


@contextmanager
def driver_errors(*, connecting: bool = False) -> Iterator[None]:
    """Whatever the driver raises becomes ``StoreUnavailableError``."""
    try:
        yield
    except FeatureStoreError:
        raise
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause.__cause__, driver.RedisError):  # connecting wraps the server's refusal in a general error
            cause = cause.__cause__
        raise StoreUnavailableError(_reason_of(cause, connecting=connecting), str(cause)) from error


def _reason_of(error: BaseException, *, connecting: bool) -> UnavailableReason:
    for kind, reason in _EXCEPTION_REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, driver.ResponseError):
        return "misconf" if str(error).startswith("MISCONF") else "unknown"
    if connecting and isinstance(error.__cause__, TimeoutError):
        return "pool_exhausted"
    if isinstance(error, driver.ConnectionError | OSError):
        said_no = getattr(error, "status_code", None) is not None  # an error reply, such as "max number of clients"
        never_met = isinstance(error.__context__, ConnectionRefusedError | FileNotFoundError | PermissionError)
        return "refused" if connecting or said_no or never_met else "disconnected"
    return "unknown"


async def pipeline_replies(pipeline: Pipeline | ClusterPipeline) -> list[Any]:
    """Run a pipeline. The driver would add the command, ids and values included, to the message of an error reply.

    A cluster's pipeline must raise its errors itself, or a lost node would be neither retried nor looked up again; of those
    errors only the kind is told.
    """
    if isinstance(pipeline, ClusterPipeline):
        return await _cluster_replies(pipeline)
    with driver_errors():
        replies = await pipeline.execute(raise_on_error=False)
        refused = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if refused is not None:
            raise refused
        return replies


async def _cluster_replies(pipeline: ClusterPipeline) -> list[Any]:
    told: StoreUnavailableError
    try:
        with driver_errors():
            return list(await pipeline.execute(raise_on_error=True))
    except StoreUnavailableError as error:
        told = StoreUnavailableError(error.reason, type(error.__cause__).__name__)
    raise told
