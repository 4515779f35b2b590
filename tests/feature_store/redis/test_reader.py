"""Reading from a real server: one round trip, own data only, and a reason for everything that goes wrong."""

import asyncio
import os
import random
import signal

import pytest
import redis

from feature_store.breaker import BreakerRule, CircuitBreaker
from feature_store.embedded import EmbeddedStore
from feature_store.errors import StoreUnavailableError
from feature_store.keys import KeySpace
from feature_store.records import MAX_FEATURE_BYTES, encode_features, encode_history, feature_record, history_record
from feature_store.redis.reader import RedisStore
from feature_store.redis.writer import RedisWriter
from feature_store.store_settings import ReadLimits

KEYS = KeySpace()
PATIENT = ReadLimits(connect_timeout_s=2.0, read_timeout_s=2.0, pool_timeout_s=2.0)
STORM = ReadLimits(connect_timeout_s=0.05, read_timeout_s=0.01, pool_timeout_s=0.1, connections=16)
HASTY = ReadLimits(connect_timeout_s=0.03, read_timeout_s=0.03)


def features(owner: str) -> bytes:
    return encode_features(feature_record(owner, 5.0, {"name": f"features of {owner}"}, written_at=7.0))


def history(owner: str) -> bytes:
    return encode_history(history_record(owner, [f"{owner}/1", f"{owner}/2"], [1.0, 2.0], written_at=7.0))


def put(client: redis.Redis, *, users: tuple[str, ...] = (), items: tuple[str, ...] = ()) -> None:
    for user in users:
        client.set(KEYS.user(user), features(user))
        client.set(KEYS.history(user), history(user))
    for item in items:
        client.set(KEYS.item(item), features(item))


@pytest.fixture
async def store(valkey_url):
    store = RedisStore.from_url(valkey_url, limits=PATIENT)
    yield store
    await store.close()


async def reason_of_reading(store: RedisStore) -> str:
    with pytest.raises(StoreUnavailableError) as error:
        await store.read("u1", ["i1"])
    return error.value.reason


async def test_a_user_a_history_and_items_are_read(store, valkey):
    put(valkey, users=("u1",), items=("i1", "i2"))
    stored = await store.read("u1", ["i1", "absent", "i2"])
    assert stored.user.values == {"name": "features of u1"}
    assert (stored.history.items, stored.history.times, stored.history.version) == (["u1/1", "u1/2"], [1.0, 2.0], 2)
    assert {item: record and record.owner for item, record in stored.items.items()} == {"i1": "i1", "absent": None, "i2": "i2"}
    assert stored.faults == ()


async def test_of_an_unknown_user_nothing_is_read_and_nothing_is_at_fault(store):
    stored = await store.read("nobody", [])
    assert (stored.user, stored.history, stored.items, stored.faults) == (None, None, {}, ())


async def test_reading_takes_three_commands(store, valkey):
    put(valkey, users=("u1",), items=("i1",))
    await store.read("u1", [])
    valkey.config_resetstat()
    await store.read("u1", [f"i{number}" for number in range(1000)])
    commands = {name: row["calls"] for name, row in valkey.info("commandstats").items() if "config" not in name}
    assert commands == {"cmdstat_get": 2, "cmdstat_mget": 1}


async def test_a_second_prefix_in_the_same_server_is_another_store(valkey, valkey_url):
    put(valkey, users=("u1",))
    other = RedisStore.from_url(valkey_url, keys=KeySpace("other"), limits=PATIENT)
    assert (await other.read("u1", [])).user is None
    await other.close()


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        (KEYS.user("u1"), features("u2"), "user_owner_mismatch"),
        (KEYS.history("u1"), history("u2"), "history_owner_mismatch"),
        (KEYS.item("i1"), features("i2"), "item_owner_mismatch"),
        (KEYS.user("u1"), b"\xc1", "user_corrupt"),
        (KEYS.history("u1"), features("u1"), "history_corrupt"),
        (KEYS.item("i1"), b"", "item_corrupt"),
        (KEYS.user("u1"), b"x" * (MAX_FEATURE_BYTES + 1), "user_oversized"),
        (KEYS.item("i1"), b"x" * (MAX_FEATURE_BYTES + 1), "item_oversized"),
    ],
)
async def test_a_value_at_fault_is_reported_and_never_served_while_the_others_are(store, valkey, key, value, fault):
    put(valkey, users=("u1",), items=("i1", "i2"))
    valkey.set(key, value)
    stored = await store.read("u1", ["i1", "i2"])
    served = {"user": stored.user, "history": stored.history, "item": stored.items.get("i1")}
    assert stored.faults == (fault,)
    assert [kind for kind, record in served.items() if record is None] == [fault.partition("_")[0]]
    assert stored.items["i2"].owner == "i2"
    assert ("i1" in stored.items) is not fault.startswith("item")


async def test_another_redis_type_is_a_users_fault_and_an_items_absence(store, valkey):
    put(valkey, users=("u1",), items=("i1",))
    for key in (KEYS.user("u1"), KEYS.item("i1")):
        valkey.delete(key)
        valkey.rpush(key, "a", "b")
    stored = await store.read("u1", ["i1"])
    assert (stored.user, stored.history.owner, dict(stored.items), stored.faults) == (
        None,
        "u1",
        {"i1": None},
        ("user_wrong_type",),
    )


async def test_absence_is_doubted_where_a_reply_holds_another_owners_record(store, valkey):
    put(valkey, items=("i1",))
    valkey.set(KEYS.user("u1"), features("u2"))
    assert set((await store.read("u1", ["i1", "absent"])).items) == {"i1"}


async def test_another_owners_record_costs_every_connection_once_and_then_only_its_own(store, valkey):
    put(valkey, users=("u2",))
    valkey.set(KEYS.user("u1"), features("u2"))
    await read_over_four_connections(store)
    opened = connections_opened(valkey)
    assert (await store.read("u1", [])).user is None
    await read_over_four_connections(store)
    assert connections_opened(valkey) - opened == 4
    assert (await store.read("u1", [])).user is None
    await read_over_four_connections(store)
    assert connections_opened(valkey) - opened == 5


async def read_over_four_connections(store):
    """As many reads at once as four exchanges carry."""
    await asyncio.gather(*(store.read("u2", []) for _ in range(4 * 64)))


def connections_opened(client: redis.Redis) -> int:
    return client.info("stats")["total_connections_received"]


async def test_in_a_storm_of_cancellations_timeouts_and_killed_connections_nobody_gets_anothers_data(valkey, valkey_url):
    users = [f"u{number}" for number in range(300)]
    put(valkey, users=tuple(users))
    never_open = CircuitBreaker(BreakerRule(failures=10**9))
    store = RedisStore.from_url(valkey_url, limits=STORM, breaker=never_open)
    draw = random.Random(5)
    answers, wrong, gone = 0, 0, 0

    async def read(user: str) -> None:
        nonlocal answers, wrong, gone
        try:
            stored = await store.read(user, [])
        except (StoreUnavailableError, asyncio.CancelledError):
            gone += 1
            return
        answers += 1
        right = stored.user.values == {"name": f"features of {user}"} and stored.history.items[0] == f"{user}/1"
        wrong += not right or bool(stored.faults)

    async def cancelled_at_random(user: str) -> None:
        task = asyncio.create_task(read(user))
        if draw.random() < 0.3:
            await asyncio.sleep(draw.random() * 0.002)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for wave in range(100):
        if wave % 10 == 0:
            valkey.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.gather(*(cancelled_at_random(draw.choice(users)) for _ in range(50)))
    await store.close()
    assert wrong == 0
    assert (answers > 500, gone > 500) == (True, True), (answers, gone)


async def test_with_every_connection_taken_the_surplus_is_refused_and_none_is_lost(valkey, valkey_url):
    put(valkey, users=("u1",))
    limits = ReadLimits(connect_timeout_s=2.0, read_timeout_s=2.0, pool_timeout_s=0.01, connections=2, outstanding=150)
    store = RedisStore.from_url(valkey_url, limits=limits)
    await store.read("u1", [])
    valkey.execute_command("CLIENT", "PAUSE", 200, "ALL")
    results = await asyncio.gather(*(store.read("u1", []) for _ in range(170)), return_exceptions=True)
    reasons = [result.reason for result in results if isinstance(result, StoreUnavailableError)]
    assert (len(reasons), set(reasons)) == (170 - 2 * 64, {"pool_exhausted"})
    assert (await store.read("u1", [])).user.owner == "u1"
    await store.close()


async def test_a_store_that_goes_is_unavailable_and_one_that_returns_is_read_again(tmp_path):
    breaker = CircuitBreaker(BreakerRule(failures=3, first_pause_s=0.01, longest_pause_s=0.02))
    with EmbeddedStore(tmp_path) as server:
        store = RedisStore.from_url(server.url, limits=PATIENT, breaker=breaker)
        with redis.Redis.from_url(server.url) as client:
            put(client, users=("u1",))
        assert (await store.read("u1", [])).user.owner == "u1"
    await asyncio.sleep(0.01)  # the loop learns that the idle connection is closed
    assert [await reason_of_reading(store) for _ in range(4)] == ["refused"] * 3 + ["circuit_open"]
    with EmbeddedStore(tmp_path):
        assert (await after_recovery(store)).user.owner == "u1"
    await store.close()


async def after_recovery(store: RedisStore):
    async with asyncio.timeout(10):
        while True:
            try:
                return await store.read("u1", [])
            except StoreUnavailableError:
                await asyncio.sleep(0.005)


async def test_a_frozen_store_times_out_then_opens_the_circuit_and_thaws(tmp_path):
    breaker = CircuitBreaker(BreakerRule(failures=3, first_pause_s=0.01, longest_pause_s=0.02))
    with EmbeddedStore(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        put(client, users=("u1",))
        store = RedisStore.from_url(server.url, limits=HASTY, breaker=breaker)
        await after_recovery(store)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(5):
                reasons = [await reason_of_reading(store) for _ in range(4)]
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert reasons == ["timeout"] * 3 + ["circuit_open"]
        assert (await after_recovery(store)).user.owner == "u1"
        await store.close()


async def test_ping_answers_or_says_why_not(store, tmp_path):
    await store.ping()
    nowhere = RedisStore.from_url(f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(StoreUnavailableError) as error:
        await nowhere.ping()
    assert error.value.reason == "refused"
    await nowhere.close()


async def test_after_close_nothing_is_read_and_no_connection_is_open(valkey, valkey_url):
    before = valkey.info("clients")["connected_clients"]
    store = RedisStore.from_url(valkey_url, limits=PATIENT)
    await asyncio.gather(*(store.read("u1", []) for _ in range(3)))
    await store.close()
    assert await reason_of_reading(store) == "closed"
    assert valkey.info("clients")["connected_clients"] == before


async def test_the_writer_writes_and_counts(valkey, valkey_url):
    writer = RedisWriter.from_url(valkey_url)
    pairs = [(KEYS.item(str(number)), features(str(number))) for number in range(50)]
    await writer.write_many(pairs)
    await writer.write_many(pairs)
    assert await writer.count([key for key, _ in pairs] + [KEYS.item("absent")]) == 50
    assert valkey.get(KEYS.item("7")) == features("7")
    await writer.close()


async def test_the_writer_says_why_it_cannot_write(valkey, valkey_url):
    writer = RedisWriter.from_url(valkey_url, retries=0)
    valkey.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailableError) as error:
            await writer.write_many([(b"key", b"value")])
    finally:
        valkey.config_set("maxmemory", 0)
    assert error.value.reason == "oom"
    assert "value" not in str(error.value)
    await writer.close()
