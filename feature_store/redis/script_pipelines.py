"""Sending scripts, whether or not the server knows them yet; in the pipelines of the driver's clients, on any topology."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError

from feature_store.redis.connections import driver_errors
from feature_store.redis.scripts import ScriptCall
from feature_store.redis.topology import Client, is_cluster

_LOOK_AGAIN_S = 0.25

Command = tuple[str | bytes, ...]
"""Its name is text: by that the driver finds the keys, and by them a cluster's node."""


async def run_by_client(client: Client, calls: Sequence[ScriptCall]) -> list[Any]:
    """Run scripts in the pipelines of a client, whose retries it follows: each may run more than once.

    Raises:
        StoreUnavailableError: some may have run.
    """
    return await run_scripts(partial(_pipelined, client), calls)


async def run_scripts(send: Callable[[Iterable[Command]], Awaitable[list[Any]]], calls: Sequence[ScriptCall]) -> list[Any]:
    """Run scripts by their digests, and by their sources those that a server does not know; the replies, in order.

    Args:
        send: sends commands, none at all too; an error reply stands in its place as the error that it is.

    Raises:
        StoreUnavailableError: some may have run.
    """
    with driver_errors():
        replies = await send(map(_by_digest, calls))
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        again = await send(_by_source(calls[place]) for place in unknown)
        for place, reply in zip(unknown, again, strict=True):
            replies[place] = reply
        refused = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if refused is not None:
            raise refused
        return replies


def _by_digest(call: ScriptCall) -> Command:
    """The command that runs a script which the server may know."""
    return ("EVALSHA", call.script.sha1.encode(), b"%d" % len(call.keys), *call.keys, *call.arguments)


def _by_source(call: ScriptCall) -> Command:
    """The command that runs a script and makes it known."""
    return ("EVAL", call.script.source.encode(), b"%d" % len(call.keys), *call.keys, *call.arguments)


async def _pipelined(client: Client, commands: Iterable[Command]) -> list[Any]:
    sent = list(commands)
    if not sent:
        return []
    if is_cluster(client):
        return await _cluster_pipelined(client, sent)
    return await _executed(client, sent)


async def _cluster_pipelined(client: RedisCluster, commands: Sequence[Command]) -> list[Any]:
    """A cluster's pipeline that does not raise neither tries again nor looks anew where a lost node's slots are."""
    replies = await _executed(client, commands)
    for tries_left in range(client.retry.get_retries(), -1, -1):
        lost = [place for place, reply in enumerate(replies) if isinstance(reply, RedisCluster.ERRORS_ALLOW_RETRY)]
        if not lost:
            break
        await client.aclose()  # the next command looks anew
        if not tries_left:
            break
        await asyncio.sleep(_LOOK_AGAIN_S)
        for place, reply in zip(lost, await _executed(client, [commands[place] for place in lost]), strict=True):
            replies[place] = reply
    return replies


async def _executed(client: Client, commands: Sequence[Command]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return await pipeline.execute(raise_on_error=False)
