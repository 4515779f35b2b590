"""One server, sentinels and a cluster, by URL: the same reads and writes, and healing without a restart."""

import asyncio
import contextlib
import os
import random
import signal

import pytest

from feature_store.errors import StoreSettingError, StoreUnavailableError
from feature_store.redis.connections import open_pool
from feature_store.redis.topology import is_cluster, open_client
from feature_store.redis.writer import RedisWriter
from feature_store.store_settings import ReadLimits
from tests.feature_store.redis.stored_data import (
    ITEMS,
    KEYS,
    LEAST_RIGHTS,
    USERS,
    assert_whole,
    features,
    hasty_store,
    pairs_of_everyone,
    reason_of,
    reasons_until_out,
    reasons_until_whole,
    write_everyone,
)

WRITTEN = 2 * len(USERS) + len(ITEMS)
OUT = {"timeout", "refused", "disconnected", "circuit_open", "cluster_down", "readonly"}


async def read_write_and_count(url):
    assert await write_everyone(url) == WRITTEN
    store = hasty_store(url)
    await store.ping()
    await asyncio.gather(*(assert_whole(store, user) for user in USERS))
    await store.close()
    assert await reason_of(store.read("u1", [])) == "closed"


async def test_a_single_server_is_written_counted_and_read(any_server):
    await read_write_and_count(any_server.url)


async def test_a_database_of_its_own_is_another_store(any_server):
    await read_write_and_count(f"{any_server.url}/3")
    with any_server.client() as client:
        assert client.dbsize() == 0


async def test_in_a_cluster_the_keys_lie_on_every_node_and_one_read_asks_each_node_at_most_once(any_cluster):
    await read_write_and_count(any_cluster.url)
    assert [dbsize(node) > 0 for node in any_cluster.nodes] == [True] * 3
    assert sum(map(dbsize, any_cluster.nodes)) == WRITTEN
    store = hasty_store(any_cluster.url)
    await assert_whole(store)
    before = [packets(node) for node in any_cluster.nodes]
    await assert_whole(store)
    assert [packets(node)[0] - old[0] for node, old in zip(any_cluster.nodes, before, strict=True)] == [0, 0, 0]
    reads = [packets(node)[1] - old[1] for node, old in zip(any_cluster.nodes, before, strict=True)]
    assert sum(reads) == len(ITEMS) + 3  # the user, the history, every item, and the absent one
    await store.close()


def dbsize(node):
    with node.client() as client:
        return client.dbsize()


def packets(node):
    """Connections opened since the start, except for this look; GETs and MGETs heard."""
    with node.client() as client:
        opened = client.info("stats")["total_connections_received"]
        looks = node.__dict__["looks"] = node.__dict__.get("looks", 0) + 1
        heard = client.info("commandstats")
        return opened - looks, sum(heard.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("get", "mget"))


async def test_in_a_cluster_a_user_with_the_least_rights_writes_and_reads(any_cluster):
    for node in any_cluster.nodes:
        add_user(node, "+cluster|slots", "+asking", "+command")
    await read_write_and_count(with_user(any_cluster.url))
    store = hasty_store(with_user(any_cluster.url).replace("secret", "wrong"))
    assert await reason_of(store.read("u1", [])) == "noauth"
    await store.close()


def add_user(server, *more):
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "rankline", "on", ">secret", *LEAST_RIGHTS, *more)


def with_user(url):
    return url.replace("://", "://rankline:secret@")


async def test_a_clients_kind_is_told_by_its_url(any_server, any_cluster):
    for url, kind in ((any_server.url, False), (any_cluster.url, True)):
        client = open_client(url, timeout_s=5.0, retries=2, max_connections=2)
        assert is_cluster(client) is kind
        assert await client.set("rankline:x", b"1")
        assert await client.get("rankline:x") == b"1"
        await client.aclose()
    with pytest.raises(StoreSettingError, match="cluster's"):
        open_pool(any_cluster.url)


async def test_a_clusters_refusal_has_its_reason_and_repeats_no_value(any_cluster):
    writer = RedisWriter.from_url(any_cluster.url, retries=0)
    for node in any_cluster.nodes:
        with node.client() as client:
            client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailableError) as error:
            await writer.write_many([(KEYS.user("secret-id"), b"value")])
    finally:
        for node in any_cluster.nodes:
            with node.client() as client:
                client.config_set("maxmemory", 0)
    assert error.value.reason == "oom"
    assert "secret-id" not in str(error.value)
    await writer.close()


async def test_slots_that_moved_are_followed_and_remembered(any_cluster):
    await write_everyone(any_cluster.url)
    store = hasty_store(any_cluster.url)
    await assert_whole(store)
    move_slot(any_cluster, KEYS.user("u1"))
    await assert_whole(store)
    await store.close()


async def test_a_slot_on_its_way_is_read_from_both_of_its_nodes(any_cluster):
    await write_everyone(any_cluster.url)
    slot, source, target = homes(any_cluster, KEYS.user("u1"))
    with source.client() as old, target.client() as new:
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(old))
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(new))
        old.execute_command("MIGRATE", "127.0.0.1", target.port, KEYS.history("u1"), 0, 5000)
        store = hasty_store(any_cluster.url)
        try:
            await assert_whole(store)
        finally:
            old.execute_command("MIGRATE", "127.0.0.1", target.port, KEYS.user("u1"), 0, 5000)
            give_slot(slot, source, target)
    await reasons_until_whole(store)
    await store.close()


def node_id(client):
    return client.execute_command("CLUSTER", "MYID")


def homes(cluster, key):
    """A key's slot, its node, and another one."""
    with cluster.nodes[0].client() as client:
        slot = client.execute_command("CLUSTER", "KEYSLOT", key)
        for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                source = next(node for node in cluster.nodes if node.port == port)
                return slot, source, next(node for node in cluster.nodes if node is not source)
    raise AssertionError


def move_slot(cluster, key):
    """Move a key's slot, with everything in it, to another node."""
    slot, source, target = homes(cluster, key)
    with source.client() as old, target.client() as new:
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(old))
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(new))
    give_slot(slot, source, target)


def give_slot(slot, source, target):
    with source.client() as old, target.client() as new:
        for key in old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            old.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        owner = node_id(new)
        for client in (new, old):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", owner)


async def test_another_owners_record_in_a_cluster_is_never_served(any_cluster):
    await write_everyone(any_cluster.url)
    client = open_client(any_cluster.url, timeout_s=5.0, retries=2, max_connections=2)
    await client.set(KEYS.user("u1"), features("u2"))
    store = hasty_store(any_cluster.url)
    stored = await store.read("u1", [*ITEMS, "absent"])
    assert (stored.user, stored.faults, set(stored.items)) == (None, ("user_owner_mismatch",), set(ITEMS))
    await assert_whole(store, "u2")
    await store.close()
    await client.aclose()


async def test_in_a_cluster_under_cancellations_timeouts_and_killed_connections_nobody_gets_anothers_data(any_cluster):
    await write_everyone(any_cluster.url)
    store = hasty_store(any_cluster.url, limits=ReadLimits(connect_timeout_s=0.1, read_timeout_s=0.02, pool_timeout_s=0.1))
    draw = random.Random(5)
    answers = 0

    async def read(user):
        nonlocal answers
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(draw.random() * 0.01 if draw.random() < 0.3 else None):
                stored = await store.read(user, draw.sample(ITEMS, 5))
            names = {stored.user.values["name"]: user} | {each.values["name"]: item for item, each in stored.items.items()}
            assert (stored.faults, stored.history.items) == ((), [f"{user}/1"])
            assert all(name == f"features of {owner}" for name, owner in names.items())
            answers += 1

    for wave in range(60):
        if wave % 5 == 0:
            with any_cluster.nodes[wave % 3].client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.gather(*(read(draw.choice(USERS)) for _ in range(20)))
    assert answers > 100
    await store.close()


@pytest.mark.slow
async def test_a_clusters_node_that_is_killed_is_told_and_one_that_returns_is_read_again(any_cluster):
    await write_everyone(any_cluster.url)
    store = hasty_store(any_cluster.url)
    writer = RedisWriter.from_url(any_cluster.url, timeout_s=2.0, retries=1)
    await assert_whole(store)
    any_cluster.nodes[1].kill()
    assert await reasons_until_out(store) in OUT
    assert await reason_of(writer.write_many(pairs_of_everyone())) in OUT
    async with asyncio.timeout(20):
        while await reason_of(store.read("u1", ITEMS)) != "cluster_down":  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    any_cluster.nodes[1].start()
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await writer.write_many(pairs_of_everyone())
                break
    await reasons_until_whole(store)
    await writer.close()
    await store.close()


async def test_a_clusters_frozen_node_costs_a_read_its_timeouts_and_no_more(any_cluster):
    await write_everyone(any_cluster.url)
    store = hasty_store(any_cluster.url, limits=ReadLimits(connect_timeout_s=0.1, read_timeout_s=0.1))
    await reasons_until_whole(store)
    os.kill(any_cluster.nodes[2].pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            reasons = {await reason_of(store.read("u1", ITEMS)) for _ in range(3)}
    finally:
        os.kill(any_cluster.nodes[2].pid, signal.SIGCONT)
    assert reasons == {"timeout"}
    await reasons_until_whole(store)
    await store.close()


@pytest.mark.slow
async def test_sentinels_lead_to_the_master_and_after_its_death_to_the_next(any_sentinels):
    for server in any_sentinels.servers:
        add_user(server, "+role")
    for sentinel in any_sentinels.sentinels:
        with sentinel.client() as client:
            client.execute_command("ACL", "SETUSER", "watcher", "on", ">secret", "+sentinel|get-master-addr-by-name")
    url = f"{with_user(any_sentinels.url)}?sentinel_username=watcher&sentinel_password=secret"
    await read_write_and_count(url)
    store = hasty_store(url)
    await assert_whole(store)
    with any_sentinels.servers[1].client() as replica:
        assert replica.info("commandstats").get("cmdstat_mget") is None  # reads come from the master
        await replicated(any_sentinels.servers[0])
    any_sentinels.servers[0].kill()
    assert await reasons_until_out(store) in OUT
    assert set(await reasons_until_whole(store)) <= OUT
    assert await write_everyone(any_sentinels.url) == WRITTEN
    await store.close()


async def replicated(master):
    with master.client() as client:
        assert await asyncio.to_thread(client.wait, 1, 10_000) == 1


@pytest.mark.slow
async def test_after_a_planned_failover_no_connection_to_the_old_master_is_used(any_sentinels):
    await write_everyone(any_sentinels.url)
    await replicated(any_sentinels.servers[0])
    store = hasty_store(any_sentinels.url)
    writer = RedisWriter.from_url(any_sentinels.url, timeout_s=5.0, retries=30)
    await writer.write_many(pairs_of_everyone())
    await assert_whole(store)
    with any_sentinels.sentinels[0].client() as sentinel:
        sentinel.execute_command("SENTINEL", "FAILOVER", "features")
    async with asyncio.timeout(20):
        while "cmdstat_mget" not in commands_heard(any_sentinels.servers[1]):
            with contextlib.suppress(StoreUnavailableError):
                await writer.write_many(pairs_of_everyone())
                await assert_whole(store)
            await asyncio.sleep(0.02)
    await writer.close()
    await store.close()


def commands_heard(server):
    """Commands by name; a replica hears SET from its master, but no MGET."""
    with server.client() as client:
        return set(client.info("commandstats"))


async def test_a_master_unknown_to_the_sentinels_or_sentinels_that_are_away_have_reasons(any_server):
    store = hasty_store(f"redis+sentinel://127.0.0.1:{any_server.port}/features")  # no sentinel: it does not know the command
    assert await reason_of(store.read("u1", [])) == "unknown"
    await store.close()
    store = hasty_store("redis+sentinel://127.0.0.1:1,127.0.0.1:2/features")
    assert await reason_of(store.read("u1", [])) == "refused"
    await store.close()


async def test_a_single_server_taken_for_a_cluster_has_a_reason(any_server):
    store = hasty_store(any_server.url.replace("redis://", "redis+cluster://"))
    assert await reason_of(store.read("u1", [])) == "unknown"
    await store.close()
    store = hasty_store("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    assert await reason_of(store.read("u1", [])) == "refused"
    await store.close()
