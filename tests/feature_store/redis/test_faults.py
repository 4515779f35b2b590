"""Servers that misbehave: each fault has its reason, costs what it must, and leaks nothing into the next answer."""

import asyncio
import contextlib
from functools import partial

import pytest

from feature_store.breaker import BreakerRule, CircuitBreaker
from feature_store.errors import StoreUnavailableError
from feature_store.records import encode_features, encode_history, feature_record, history_record
from feature_store.redis.reader import RedisStore
from feature_store.store_settings import ReadLimits
from tests.feature_store.fake_redis import always, array, bulk, fake_redis

LIMITS = ReadLimits(connect_timeout_s=5.0, read_timeout_s=0.3)


def own_data(command):
    """A sound reply: the user's keys answered by records of their own owner, no item known."""
    name, key, *more = command
    if name == b"MGET":
        return array([None, *(None for _ in more)])
    owner = key.decode().partition("{")[2].removesuffix("}")
    if b":history:" in key:
        return bulk(encode_history(history_record(owner, [], [])))
    return bulk(encode_features(feature_record(owner, 5.0, {"name": owner})))


def answered_to(name, reply):
    """Commands of this name are answered by these bytes, others properly."""

    async def answer(command, writer):
        if command[0] == name:
            writer.write(reply)
        else:
            await answer_properly(command, writer)

    return answer


def reads(fake):
    return sum(command[0] == b"GET" and b":user:" in command[1] for command in fake.commands)


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
    ],
)
@pytest.mark.parametrize("answer", [always, partial(answered_to, b"MGET")], ids=["to all", "to MGET"])
async def test_every_reply_but_a_sound_one_has_its_reason_and_the_next_read_is_sound(fake, store, reply, reason, answer):
    fake.answer = answer(reply)
    assert await read_reason(store) == reason
    fake.answer = answer_properly
    assert (await store.read("u2", ["i1"])).user.owner == "u2"


@pytest.mark.parametrize(("name", "reply"), [(b"MGET", b"*1\r\n$5\r\nab"), (b"MGET", b"*2\r\n$-1\r\n"), (b"GET", b"")])
async def test_half_a_reply_is_waited_for_and_never_taken_for_a_whole_one(fake, store, name, reply):
    fake.answer = answered_to(name, reply)
    assert await read_reason(store) == ("timeout" if name == b"MGET" else "protocol")
    fake.answer = answer_properly
    assert (await store.read("u2", ["i1"])).user.owner == "u2"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-ERR WRONGTYPE is not what this begins with\r\n", "unknown"),
        (b"*1\r\n$-1\r\n", "protocol"),
        (b":3\r\n", "protocol"),
    ],
)
async def test_a_reply_to_get_that_is_no_value_costs_the_connection(fake, store, reply, reason):
    fake.answer = answered_to(b"GET", reply)
    assert await read_reason(store) == reason
    fake.answer = answer_properly
    assert (await store.read("u2", ["i1"])).faults == ()
    assert fake.connections == 2


async def test_values_of_another_type_are_told_one_by_one_and_leave_the_connection_whole(fake, store):
    wrong = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"

    async def wrong_history(command, writer):
        if command[0] == b"GET" and b":history:" in command[1]:
            writer.write(wrong)
        else:
            await answer_properly(command, writer)

    for answer, faults in (
        (wrong_history, ("history_wrong_type",)),
        (answered_to(b"GET", wrong), ("user_wrong_type", "history_wrong_type")),
        (answer_properly, ()),
    ):
        fake.answer = answer
        stored = await store.read("u1", ["i1"])
        assert (stored.faults, dict(stored.items)) == (faults, {"i1": None})
        assert (stored.user is None) is ("user_wrong_type" in faults)
    assert fake.connections == 1


async def test_a_wrong_type_is_no_reply_to_the_items(fake, store):
    fake.answer = answered_to(b"MGET", b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n")
    assert await read_reason(store) == "unknown"


@pytest.mark.parametrize(("items", "count"), [([], 2), (["i1", "i2"], 3)])
async def test_everything_is_written_before_the_first_reply_is_there(fake, store, items, count):
    """One round trip: a server that answers nothing before it has heard all is no trouble."""
    heard = []

    async def answer_at_last(command, writer):
        heard.append(command)
        if len(heard) == count:
            writer.write(b"".join(own_data(each) for each in heard))

    fake.answer = answer_at_last
    stored = await store.read("u1", items)
    assert (stored.user.owner, stored.history.owner, stored.items) == ("u1", "u1", dict.fromkeys(items))
    assert [command[0] for command in heard] == [b"GET", b"GET", b"MGET"][:count]


async def test_a_read_is_tried_once(fake, store):
    fake.answer = always(b"")
    await read_reason(store)
    fake.answer = always(b"-LOADING\r\n")
    await read_reason(store)
    assert reads(fake) == 2


async def test_a_connection_is_tried_once(fake):
    fake.answer = always(b"-LOADING\r\n")
    store = RedisStore.from_url(f"{fake.url}?db=1", limits=LIMITS)
    assert await read_reason(store) == "loading"
    assert fake.commands == [[b"SELECT", b"1"]]
    await store.close()


@pytest.mark.parametrize(("where", "length"), [(0, 0), (0, 1), (0, 20), (0, 40), (1, 0), (1, 20), (2, 0), (2, 3)])
async def test_a_reply_cut_off_anywhere_is_a_disconnection_and_never_a_part_of_the_data(fake, store, where, length):
    whole = iter(range(where))

    async def cut_off(command, writer):
        if next(whole, None) is not None:
            writer.write(own_data(command))
        elif not writer.is_closing():
            writer.write(own_data(command)[:length])
            writer.close()

    fake.answer = cut_off
    assert await read_reason(store) == "disconnected"
    fake.answer = answer_properly
    assert (await store.read("u2", [])).user.owner == "u2"


async def test_replies_one_off_are_caught_by_their_owner_and_the_connection_is_dropped(fake, store):
    """A whole exchange behind: as of a proxy that mixes up two of its clients."""
    previous = [own_data([b"GET", b"p:user:{someone}"]), own_data([b"GET", b"p:history:{someone}"]), array([None])]

    async def one_off(command, writer):
        previous.append(own_data(command))
        writer.write(previous.pop(0))

    fake.answer = one_off
    for number in range(10):
        stored = await store.read(f"u{number}", ["i1"])
        assert (stored.user, stored.history, dict(stored.items)) == (None, None, {})
        assert set(stored.faults) == {"user_owner_mismatch", "history_owner_mismatch"}
    assert fake.connections == 10


@pytest.mark.parametrize("items", [[], ["i1"]])
async def test_a_single_reply_too_many_is_caught_by_its_kind_and_the_connection_is_dropped(fake, store, items):
    previous = [own_data([b"GET", b"p:history:{someone}"])]

    async def one_off(command, writer):
        previous.append(own_data(command))
        writer.write(previous.pop(0))

    fake.answer = one_off
    for number in range(5):
        previous[:] = [own_data([b"GET", b"p:history:{someone}"])]
        if items:
            assert await read_reason(store) == "protocol"
        else:
            stored = await store.read(f"u{number}", [])
            assert (stored.user, stored.history, stored.faults) == (None, None, ("user_corrupt", "history_corrupt"))
        assert fake.connections == number + 1


async def test_bytes_left_over_after_a_reply_never_reach_the_next_reader(fake, store):
    async def twice(command, writer):
        writer.write(own_data(command) * (2 if command[0] == b"MGET" else 1))

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
        if command[0] == b"GET" and any(user in command[1] for user in self.users):
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
    assert (reasons, reads(fake)) == (["loading"] * 2 + ["circuit_open"] * 8, 2)
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
        heard.append(reads(fake))
    assert heard[999] > 5
    for start in range(1_000, 5_000, 100):
        assert 1 <= heard[start + 999] - heard[start] <= 20
    await store.close()


async def test_a_wrong_password_is_named(tmp_path):
    async with fake_redis(tmp_path, always(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")) as fake:
        store = RedisStore.from_url(fake.url.replace("unix://", "unix://user:secret@"), limits=LIMITS)
        assert await read_reason(store) == "noauth"
        await store.close()
