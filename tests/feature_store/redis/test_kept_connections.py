"""Connections between two exchanges: none is lent twice, hoarded, or lent once dropped; the driver is as we think."""

import asyncio

import hiredis
import pytest
from redis._parsers.hiredis import NOT_ENOUGH_DATA

from feature_store.errors import StoreUnavailableError
from feature_store.redis.buffered_replies import replies, write
from feature_store.redis.connections import ask, open_pool
from feature_store.redis.kept_connections import KeptConnections
from feature_store.redis.topology_node import StoreNode
from tests.feature_store.fake_redis import bulk, fake_redis

OPTIONS = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0, "timeout": 0.05}


async def echo(command, writer):
    writer.write(bulk(command[-1]))


@pytest.fixture
async def fake(tmp_path):
    async with fake_redis(tmp_path, echo) as server:
        yield server


def first_value(values):
    return values[0], False


async def test_a_kept_connection_is_used_again_and_counts_among_the_most_there_may_be(fake):
    connections = KeptConnections(open_pool(fake.url, max_connections=2, **OPTIONS))
    for _ in range(3):
        first, second = await connections.take(), await connections.take()
        assert first is not second
        with pytest.raises(StoreUnavailableError, match="pool_exhausted"):
            await connections.take()
        await connections.give_back(first)
        assert await connections.take() is first
        assert await ask(first, b"GET", b"key") == b"key"
        await connections.give_back(second)
        await connections.give_back(first)
    assert fake.connections == 2
    await connections.close()


async def test_who_waits_at_the_pool_is_given_what_comes_back(fake):
    connections = KeptConnections(open_pool(fake.url, max_connections=1, **OPTIONS | {"timeout": 10.0}))
    only = await connections.take()
    waiting = [asyncio.create_task(connections.take()) for _ in range(3)]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        for task in waiting:
            await connections.give_back(only)
            assert await task is only
    await connections.close()


async def test_the_node_pings_with_the_one_connection_that_is_kept(fake):
    async def answer(command, writer):
        writer.write(b"+PONG\r\n" if command == [b"PING"] else bulk(b"value"))

    fake.answer = answer
    node = StoreNode(open_pool(fake.url, max_connections=1, **OPTIONS))
    for _ in range(3):
        assert await node.exchange([b"key"], [], first_value) == b"value"
        await node.ping()
    assert fake.connections == 1
    await node.close()


async def test_dropped_connections_are_closed_whether_kept_or_lent(fake):
    connections = KeptConnections(open_pool(fake.url, max_connections=3, **OPTIONS))
    kept, lent = await connections.take(), await connections.take()
    await connections.give_back(kept)
    await connections.drop()
    assert (kept.is_connected, lent.is_connected) == (False, True)
    await connections.give_back(lent)
    assert not lent.is_connected
    again = await connections.take()
    assert await ask(again, b"GET", b"key") == b"key"
    await connections.give_back(again)
    assert fake.connections == 3
    await connections.close()


async def test_a_connection_given_back_while_the_others_are_dropped_is_not_lent_as_it_is(fake):
    """The pool's lock delays the marking; what comes back before it is kept, and marked only then."""
    pool = open_pool(fake.url, max_connections=2, **OPTIONS)
    connections = KeptConnections(pool)
    lent = await connections.take()
    async with pool._lock:
        dropping = asyncio.create_task(connections.drop())
        await asyncio.sleep(0)
        await connections.give_back(lent)
    await dropping
    again = await connections.take()
    assert not again.should_reconnect()
    assert await ask(again, b"GET", b"key") == b"key"
    assert fake.connections == 2
    await connections.give_back(again)
    await connections.close()


@pytest.mark.parametrize("first", [True, False])
async def test_a_connection_dropped_while_it_is_looked_at_is_opened_anew(fake, first, monkeypatch):
    """``first``: from the pool; else one that was kept."""
    pool = open_pool(fake.url, max_connections=1, **OPTIONS)
    connections = KeptConnections(pool)
    if not first:
        await connections.give_back(await connections.take())
    connection_class, looks = pool.connection_class, []
    look = connection_class.can_read

    async def drops_once(connection, *arguments, **options):
        looks.append(connection)
        if len(looks) == 1:
            connection.mark_for_reconnect()
        return await look(connection, *arguments, **options)

    monkeypatch.setattr(connection_class, "can_read", drops_once)
    taken = await connections.take()
    assert not taken.should_reconnect()
    assert await ask(taken, b"GET", b"key") == b"key"
    assert fake.connections == 2
    await connections.give_back(taken)
    await connections.close()


@pytest.mark.parametrize("late", [b"", bulk(b"left over")])
async def test_a_kept_connection_that_ended_or_has_something_left_over_is_opened_anew(fake, late):
    """Meanwhile nobody has looked at it: what came is found only when it is lent again."""
    node = StoreNode(open_pool(fake.url, max_connections=1, **OPTIONS))
    writers = []

    async def answer(command, writer):
        writers.append(writer)
        await echo(command, writer)

    fake.answer = answer
    for number in range(4):
        assert await node.exchange([b"key%d" % number], [], first_value) == b"key%d" % number
        if late:
            writers[-1].write(late)
        else:
            writers[-1].close()
        await asyncio.sleep(0.01)
    assert fake.connections == 4
    await node.close()


async def test_a_reply_in_many_pieces_is_one_and_many_in_one_piece_are_many(fake):
    whole = b"".join(bulk(b"x" * size) for size in (0, 5, 70_000))

    async def in_pieces(_, writer):
        writer.write(whole)
        for at in range(0, len(whole), 9_999):
            writer.write(whole[at : at + 9_999])
            await asyncio.sleep(0.001)

    fake.answer = in_pieces
    connections = KeptConnections(open_pool(fake.url, max_connections=1, **OPTIONS))
    connection = await connections.take()
    write(connection, b"*1\r\n$4\r\nPING\r\n")
    assert [len(each) for each in await replies(connection, 6, bytes)] == [0, 5, 70_000] * 2
    await connections.give_back(connection)
    await connections.close()


async def test_the_drivers_inner_parts_are_what_reading_without_it_takes_them_for(fake):
    """When this fails, the driver has changed: look at ``buffered_replies``."""
    connections = KeptConnections(open_pool(fake.url, max_connections=1, **OPTIONS))
    connection = await connections.take()
    parser = connection._get_parser()
    assert isinstance(parser._reader, hiredis.Reader)
    assert parser._reader.gets() is NOT_ENOUGH_DATA
    assert parser._stream is connection._reader
    assert isinstance(connection._writer, asyncio.StreamWriter)
    await connection.disconnect()
    assert connection._writer is None
    with pytest.raises(Exception, match="closed"):
        write(connection, b"")
    await connections.give_back(connection)
    await connections.close()
