"""An exchange that was cancelled leaves nothing behind that another one could take for its own reply."""

import asyncio

import pytest
from redis.asyncio.connection import AbstractConnection

from feature_store.redis.connections import ask, open_pool
from feature_store.redis.script_runs import _ask_many
from feature_store.redis.topology_node import StoreNode
from tests.feature_store.fake_redis import bulk, fake_redis


async def one(connection, key):
    return await ask(connection, b"GET", key)


async def many(connection, key):
    return (await _ask_many(connection, [("GET", key)]))[0]


class LateServer:
    """Begins its reply to ``first`` and ends it, on the same connection, only when the next command comes."""

    def __init__(self, sent_bytes):
        self.sent_bytes = sent_bytes
        self.begun, self.left = asyncio.Event(), {}

    async def answer(self, command, writer):
        if command[0] != b"GET":
            writer.write(b"+OK\r\n")
        elif command[1] == b"first":
            reply = bulk(b"of first")
            writer.write(reply[: self.sent_bytes])
            self.left[writer] = reply[self.sent_bytes :]
            self.begun.set()
        else:
            writer.write(self.left.pop(writer, b"") + bulk(b"of " + command[1]))


@pytest.mark.parametrize("sent_bytes", [0, 6])
@pytest.mark.parametrize("exchange", [one, many])
async def test_a_cancelled_exchange_costs_its_connection_whatever_the_driver_does(tmp_path, monkeypatch, exchange, sent_bytes):
    read = AbstractConnection.read_response

    async def leaves_open(self, *positional, **options):
        return await read(self, *positional, **(options | {"disconnect_on_error": False}))

    monkeypatch.setattr(AbstractConnection, "read_response", leaves_open)
    late = LateServer(sent_bytes)
    async with fake_redis(tmp_path, late.answer) as server:
        node = StoreNode(open_pool(server.url, socket_timeout=10.0, max_connections=1, timeout=5.0))

        async def asked(key):
            async with node.borrowed() as connection:
                return await exchange(connection, key)

        asking = asyncio.create_task(asked(b"first"))
        await late.begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(10):
            assert await asked(b"second") == b"of second"
        await node.close()
