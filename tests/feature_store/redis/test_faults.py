"""Servers that misbehave: each fault has its reason, costs what it must, and leaks nothing into the next answer."""

import asyncio
import contextlib

import pytest

from feature_store.breaker import BreakerRule, CircuitBreaker
from feature_store.errors import StoreUnavailableError
from feature_store.records import encode_features, encode_history, feature_record, history_record
from feature_store.redis.reader import RedisStore
from feature_store.store_settings import ReadLimits
from tests.feature_store.fake_redis import always, array, fake_redis

LIMITS = ReadLimits(connect_timeout_s=5.0, read_timeout_s=0.3)


def own_data(command):
    """A sound reply to MGET: every key answered by a record of its own owner."""
    _, user_key, _, *item_keys = command
    owner = user_key.decode().partition("{")[2].removesuffix("}")
    user = encode_features(feature_record(owner, 5.0, {"name": owner}))
    return array([user, encode_history(history_record(owner, [], [])), *(None for _ in item_keys)])


async def answer_properly(command, writer):
    writer.write(b"+PONG\r\n" if command == [b"PING"] else own_data(command))


@pytest.fixture
async def fake(tmp_path):
    async with fake_redis(tmp_path, answer_properly) as server:
        yield server


@pytest.fixture
async def store(fake):
    store = RedisStore.from_url(fake.url, limits=LIMITS, breaker=CircuitBreaker(BreakerRule(failures=10**9)))
    yield store
    await store.close()


async def read_reason(store):
    with pytest.raises(StoreUnavailableError) as error:
        await store.read("u1", ["i1"])
    return error.value.reason


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-READONLY You can't write against a read only replica.\r\n", "readonly"),
        (b"-MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.\r\n", "misconf"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "oom"),
        (b"-NOAUTH Authentication required.\r\n", "noauth"),
        (b"-NOPERM User default has no permissions to run the 'mget' command\r\n", "noauth"),
        (b"-ERR max number of clients reached\r\n", "refused"),
        (b"-ERR unknown command\r\n", "unknown"),
        (b"-MASTERDOWN Link with MASTER is down\r\n", "unknown"),
        (b"+OK\r\n", "protocol"),
        (b":3\r\n", "protocol"),
        (b"$-1\r\n", "protocol"),
        (b"*2\r\n$-1\r\n$-1\r\n", "protocol"),
        (b"*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n", "protocol"),
        (b"*3\r\n$-1\r\n:1\r\n$-1\r\n", "protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol"),
        (b"", "timeout"),
        (b"*3\r\n$-1\r\n$5\r\nab", "timeout"),
    ],
)
async def test_every_reply_but_a_sound_one_has_its_reason_and_the_next_read_is_sound(fake, store, reply, reason):
    fake.answer = always(reply)
    assert await read_reason(store) == reason
    fake.answer = answer_properly
    assert (await store.read("u2", ["i1"])).user.owner == "u2"


async def test_a_read_is_tried_once(fake, store):
    fake.answer = always(b"")
    await read_reason(store)
    fake.answer = always(b"-LOADING\r\n")
    await read_reason(store)
    assert len(fake.commands) == 2


async def test_a_connection_is_tried_once(fake):
    fake.answer = always(b"-LOADING\r\n")
    store = RedisStore.from_url(f"{fake.url}?db=1", limits=LIMITS)
    assert await read_reason(store) == "loading"
    assert fake.commands == [[b"SELECT", b"1"]]
    await store.close()


@pytest.mark.parametrize("length", [0, 1, 20, 40])
async def test_a_reply_cut_off_anywhere_is_a_disconnection_and_never_a_part_of_the_data(fake, store, length):
    async def cut_off(command, writer):
        writer.write(own_data(command)[:length])
        writer.close()

    fake.answer = cut_off
    assert await read_reason(store) == "disconnected"
    fake.answer = answer_properly
    assert (await store.read("u2", [])).user.owner == "u2"


async def test_replies_one_off_are_caught_by_their_owner_and_the_connection_is_dropped(fake, store):
    previous = [own_data([b"MGET", b"p:user:{someone}", b"", b""])]

    async def one_off(command, writer):
        reply, previous[0] = previous[0], own_data(command)
        writer.write(reply)

    fake.answer = one_off
    for number in range(10):
        stored = await store.read(f"u{number}", ["i1"])
        assert (stored.user, stored.history, dict(stored.items)) == (None, None, {})
        assert set(stored.faults) == {"user_owner_mismatch", "history_owner_mismatch"}
    assert fake.connections == 10


async def test_bytes_left_over_after_a_reply_never_reach_the_next_reader(fake, store):
    async def twice(command, writer):
        writer.write(own_data(command) * 2)

    fake.answer = twice
    for number in range(5):
        stored = await store.read(f"u{number}", ["i1"])
        assert (stored.user.owner, stored.faults) == (f"u{number}", ())
        await asyncio.sleep(0.005)
    assert fake.connections == 5


class Gate:
    """Answers properly, but users named here only once the gate is opened."""

    def __init__(self, *users):
        self.users = users
        self.opened = asyncio.Event()

    async def __call__(self, command, writer):
        if any(user in command[1] for user in self.users):
            await self.opened.wait()
        await answer_properly(command, writer)


async def test_late_replies_never_reach_the_next_reader(fake, store):
    for _ in range(3):
        fake.answer = gate = Gate(b"{u1}")
        assert await read_reason(store) == "timeout"
        gate.opened.set()
        stored = await store.read("u2", ["i1"])
        assert (stored.user.owner, stored.faults) == ("u2", ())


async def test_a_caller_that_goes_away_leaves_the_exchange_to_finish_and_the_connection_whole(fake, store):
    for _ in range(5):
        fake.answer = gate = Gate(b"{u1}")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.read("u1", ["i1"]), 0.02)
        gate.opened.set()
        await asyncio.sleep(0.02)
        assert (await store.read("u2", ["i1"])).user.owner == "u2"
    assert fake.connections <= 2


async def test_with_the_circuit_open_nothing_reaches_the_server_but_the_probes(fake):
    now = [0.0]
    breaker = CircuitBreaker(BreakerRule(failures=2, first_pause_s=1.0, jitter=0.0), clock=lambda: now[0])
    store = RedisStore.from_url(fake.url, limits=LIMITS, breaker=breaker)
    fake.answer = always(b"-LOADING\r\n")
    reasons = [await read_reason(store) for _ in range(10)]
    assert (reasons, len(fake.commands)) == (["loading"] * 2 + ["circuit_open"] * 8, 2)
    now[0] = 1.0
    assert [await read_reason(store) for _ in range(3)] == ["loading", "circuit_open", "circuit_open"]
    fake.answer = answer_properly
    await store.ping()
    assert (await store.read("u1", [])).user.owner == "u1"
    await store.close()


async def test_a_probe_whose_caller_goes_away_still_closes_the_circuit(fake):
    now = [0.0]
    breaker = CircuitBreaker(BreakerRule(failures=1, first_pause_s=1.0, jitter=0.0), clock=lambda: now[0])
    store = RedisStore.from_url(fake.url, limits=LIMITS, breaker=breaker)
    fake.answer = always(b"-LOADING\r\n")
    await read_reason(store)
    now[0] = 1.0
    fake.answer = gate = Gate(b"{u1}")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(store.read("u1", []), 0.02)
    assert await read_reason(store) == "circuit_open"
    gate.opened.set()
    for _ in range(2_000):
        if breaker.is_open:
            await asyncio.sleep(0.001)
    assert (await store.read("u2", [])).user.owner == "u2"
    await store.close()


async def test_of_a_silent_store_at_most_20_probes_a_second_reach_the_socket_once_the_circuit_is_open(fake):
    """The breaker's own pauses, with a read timeout as short as the service's; asked 1,000 times a second by its clock."""
    now = [0.0]

    fake.answer = always(b"")
    breaker = CircuitBreaker(BreakerRule(), clock=lambda: now[0])
    limits = ReadLimits(connect_timeout_s=2.0, read_timeout_s=0.01)
    store = RedisStore.from_url(fake.url, limits=limits, breaker=breaker)
    heard = []
    for _ in range(6_000):
        with contextlib.suppress(StoreUnavailableError):
            await store.read("u1", [])
        now[0] += 0.001
        heard.append(len(fake.commands))
    assert heard[999] > 5
    for start in range(1_000, 5_000, 100):
        assert 1 <= heard[start + 999] - heard[start] <= 20
    await store.close()


async def test_a_wrong_password_is_named(tmp_path):
    async with fake_redis(tmp_path, always(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")) as fake:
        store = RedisStore.from_url(fake.url.replace("unix://", "unix://user:secret@"), limits=LIMITS)
        assert await read_reason(store) == "noauth"
        await store.close()
