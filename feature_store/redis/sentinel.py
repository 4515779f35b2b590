"""Connections to the master that sentinels name.

The driver's own pool for sentinels neither bounds its waits nor asks for a master's role, and asks its sentinels one after
another, the dead ones included. Here every connection asks all of them at once, goes where most of them point, and proves
that the server there calls itself a master.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from redis import exceptions as driver
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection

from feature_store.redis.topology_lookup import Lookup

Address = tuple[str, int]

SENTINEL_PORT = 26379
LOOK_AGAIN_S = 1.0
"""A master cut off from its sentinels looks healthy, so they are asked now and then while all seems well."""


class DemotedMasterError(driver.ConnectionError):
    """The server is a replica by now. A lost connection to the driver: its retries, where wanted, ask the sentinels again."""


class Sentinels:
    """The sentinels of one service."""

    def __init__(self, service: str, sentinels: Sequence[Callable[[], Connection]], *, timeout_s: float) -> None:
        """``timeout_s`` bounds the wait for a sentinel, its connection included."""
        self._service = service
        self._sentinels = sentinels
        self._timeout_s = timeout_s

    async def master(self) -> Address:
        """The master's host and port, by most of the sentinels that answer.

        Raises:
            driver.RedisError, TimeoutError: no sentinel answers, or none knows the service.
        """
        asked = [asyncio.ensure_future(self._named_by(sentinel())) for sentinel in self._sentinels]
        votes: Counter[Address] = Counter()
        trouble: Exception | None = None
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    votes[await answer] += 1
                except Exception as error:
                    trouble = error
                if votes and max(votes.values()) * 2 > len(asked):
                    break
        finally:
            for question in asked:
                question.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if not votes:
            raise trouble or driver.ConnectionError("no sentinel was asked")
        return votes.most_common(1)[0][0]

    async def _named_by(self, sentinel: Connection) -> Address:
        async with asyncio.timeout(self._timeout_s):
            try:
                await sentinel.connect()  # type: ignore[no-untyped-call]
                await sentinel.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
                match await sentinel.read_response():
                    case [bytes(host), bytes(port)] if port.isdigit():
                        return host.decode(errors="replace"), int(port)
                raise driver.ConnectionError("a sentinel knows no master of this name")
            finally:
                await sentinel.disconnect(nowait=True)


class MasterConnection(Connection):
    """A connection to whichever server is the master when it is opened."""

    def __init__(self, *, lookup: Lookup[Address], **options: Any) -> None:
        self._lookup = lookup
        super().__init__(**options)

    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            self.host, self.port = await self._lookup.find()
            await super()._connect()  # type: ignore[no-untyped-call]

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health)
        await self.send_command("ROLE", check_health=False)
        match await super().read_response():
            case [b"master", *_]:
                return
        raise DemotedMasterError("the server that the sentinels name is no master")

    async def read_response(self, *positional: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*positional, **options)
        except driver.ReadOnlyError as error:
            await self.disconnect(nowait=True)
            raise DemotedMasterError(str(error)) from None


class MasterTlsConnection(MasterConnection, SSLConnection):
    """The same over TLS."""


class MasterPool(BlockingConnectionPool):
    """Lends no connection to a server that is not the master any more, as far as the sentinels have told."""

    def __init__(self, *, lookup: Lookup[Address], tls: bool, **options: Any) -> None:
        self._lookup = lookup
        super().__init__(connection_class=MasterTlsConnection if tls else MasterConnection, lookup=lookup, **options)

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connected, to the master, with nothing left over from another exchange."""
        if connection.is_connected:
            self._lookup.look_again()
            if isinstance(connection, MasterConnection) and (connection.host, connection.port) != self._lookup.last:
                await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._lookup.close()
        await super().aclose()
