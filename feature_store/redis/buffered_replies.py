"""Replies taken from what has arrived already; the only place that looks behind the driver's public face.

The driver awaits its way through three coroutines for every reply and sets up a timeout around each, though mostly all replies
of an exchange came with the first bytes. Here they are taken from its parser one after another, and only for more bytes is
waited. The caller bounds that wait; anything but sound replies must cost the connection, as always.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from redis import exceptions as driver
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio.connection import AbstractConnection

T = TypeVar("T")


def write(connection: AbstractConnection, command: bytes) -> None:
    """Send bytes without waiting until they have left: whoever waits for the replies waits for that, too.

    Raises:
        redis.ConnectionError: the connection is closed.
    """
    writer = connection._writer
    if writer is None:
        raise driver.ConnectionError("the connection is closed")
    writer.write(command)


async def replies(connection: AbstractConnection, count: int, check: Callable[[Any], T]) -> list[T]:
    """So many replies, each as ``check`` makes of it as soon as it is there; error replies are given to it, too.

    Raises:
        redis.RedisError, OSError: the connection ended, or its bytes are no replies; whatever ``check`` raises.
    """
    parser: Any = connection._get_parser()
    take = parser._reader.gets
    taken: list[T] = []
    while len(taken) < count:
        reply = take()
        if reply is NOT_ENOUGH_DATA:
            await parser.read_from_socket()
        else:
            taken.append(check(reply))
    return taken
