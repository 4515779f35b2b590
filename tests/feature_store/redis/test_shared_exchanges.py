"""Callers that share an exchange: each has its own data or is told why not, whatever the server and the others do."""

import asyncio
import tempfile
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.breaker import BreakerRule, CircuitBreaker
from feature_store.errors import StoreUnavailableError
from feature_store.redis.reader import RedisStore
from feature_store.store_settings import ReadLimits
from tests.feature_store.fake_redis import array, bulk, fake_redis
from tests.feature_store.redis.stored_data import ITEMS, KEYS, PATIENT, USERS, features, pairs_of_everyone

STORED = dict(pairs_of_everyone())
LIMITS = ReadLimits(connect_timeout_s=1.0, read_timeout_s=0.02, pool_timeout_s=0.05)
WRONG_TYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"


def values(command):
    return [STORED.get(key) for key in command[1:]]


def reply_of(command, found=values):
    return array(found(command)) if command[0] == b"MGET" else bulk(found(command)[0])


def store_at(url, limits=LIMITS):
    return RedisStore.from_url(url, limits=limits, breaker=CircuitBreaker(BreakerRule(failures=10**9)))


async def properly(command, writer):
    writer.write(reply_of(command))


@pytest.fixture
async def fake(tmp_path):
    async with fake_redis(tmp_path, properly) as server:
        yield server


@pytest.fixture
async def shared(fake):
    store = store_at(fake.url, PATIENT)
    yield store
    await store.close()


async def test_fifty_callers_cost_one_exchange_and_each_has_its_own(valkey, valkey_url):
    valkey.mset(dict(STORED))
    store = store_at(valkey_url, PATIENT)
    await store.read("u0", [])
    valkey.config_resetstat()
    asked = [(USERS[number % 20], ITEMS[number : number + number % 4]) for number in range(50)]
    for (user, items), stored in zip(asked, await asyncio.gather(*(store.read(*each) for each in asked)), strict=True):
        assert stored.user.values["name"] == f"features of {user}"
        assert stored.history.items == [f"{user}/1"]
        assert {item: record.owner for item, record in stored.items.items()} == {item: item for item in items}
        assert (stored.faults, stored.mixed_up) == ((), False)
    calls = {name: row["calls"] for name, row in valkey.info("commandstats").items() if "config" not in name}
    assert calls == {"cmdstat_get": 100, "cmdstat_mget": 1}
    await store.close()


async def test_a_value_at_fault_is_its_callers_alone(fake, shared):
    async def answer(command, writer):
        if command[1] == KEYS.user("u1"):
            writer.write(WRONG_TYPE)
        elif command[1] == KEYS.history("u2"):
            writer.write(bulk(b"\xc1"))
        else:
            writer.write(reply_of(command))

    fake.answer = answer
    answers = await asyncio.gather(*(shared.read(user, ["absent"]) for user in ("u1", "u2", "u3", "nobody")))
    assert [each.faults for each in answers] == [("user_wrong_type",), ("history_corrupt",), (), ()]
    assert [each.history and each.history.owner for each in answers] == ["u1", None, "u3", None]
    assert all(each.items == {"absent": None} for each in answers)
    assert fake.connections == 1


async def test_where_one_callers_value_is_anothers_nobodys_absences_are_believed(fake, shared):
    async def answer(command, writer):
        writer.write(bulk(features("u2")) if command[1] == KEYS.user("u1") else reply_of(command))

    fake.answer = answer
    asked = [("u1", []), ("u2", ["i1", "absent"]), ("nobody", [])]
    first, second, third = await asyncio.gather(*(shared.read(*each) for each in asked))
    assert (first.user, first.history.owner, first.faults) == (None, "u1", ("user_owner_mismatch",))
    assert (second.user.owner, second.history.owner, set(second.items), second.faults) == ("u2", "u2", {"i1"}, ())
    assert (third.user, third.faults) == (None, ("user_owner_mismatch", "history_owner_mismatch"))
    fake.answer = properly
    assert (await shared.read("nobody", [])).faults == ()
    assert fake.connections == 2


async def test_a_caller_that_goes_away_or_gives_up_leaves_the_others_their_answers(fake, shared):
    heard, opened = asyncio.Event(), asyncio.Event()

    async def answer(command, writer):
        heard.set()
        await opened.wait()
        await properly(command, writer)

    fake.answer = answer
    first, second, third = (asyncio.create_task(shared.read(f"u{n}", [], 0.01 if n == 2 else 5.0)) for n in (1, 2, 3))
    await heard.wait()
    first.cancel()
    with pytest.raises(StoreUnavailableError, match="timeout"):
        await second
    opened.set()
    assert (await third).user.owner == "u3"
    assert (first.cancelled(), fake.connections) == (True, 1)


class Trouble:
    """Answers each command as the next of the troubles says; all else is sound."""

    def __init__(self, troubles):
        self._next = cycle(troubles)
        self._kept = {}

    async def __call__(self, command, writer):
        reply = reply_of(command)
        match next(self._next):
            case "keep":  # until after the next one, on the same connection
                self._kept[writer] = self._kept.get(writer, b"") + reply
                return
            case "late":
                await asyncio.sleep(0.03)
            case "twice":
                reply *= 2
            case "missing":
                reply = b""
            case "turned":
                reply = reply_of(command, lambda command: values(command)[::-1])
            case "another's":
                reply = reply_of(command, lambda command: [STORED[KEYS.user("u9")] for _ in command[1:]])
            case "garbled":
                reply = reply[:-3] + b"?\r\n"
            case "cut":
                reply = reply[: len(reply) // 2]
            case "closed":
                writer.close()
                return
        writer.write(reply + self._kept.pop(writer, b""))


@dataclass(frozen=True)
class Caller:
    user: str
    items: tuple
    after_ms: int
    timeout_ms: int
    leaves_ms: int


TROUBLES = st.sampled_from(["keep", "late", "twice", "missing", "turned", "another's", "garbled", "cut", "closed"])
CALLERS = st.builds(
    Caller,
    st.sampled_from(["u1", "u2", "u3", "nobody", "stranger"]),
    st.lists(st.sampled_from(["i1", "i2", "i3", "x1", "x2"]), max_size=3, unique=True).map(tuple),
    st.integers(0, 6),
    st.integers(1, 60),
    st.sampled_from([1, 3, 8, 1_000, 1_000, 1_000]),
)


def assert_own_or_told(caller, stored):
    """What there is belongs to whom it was asked for; what the store has is there, or its loss is told."""
    for record in (stored.user, stored.history):
        assert record is None or record.owner == caller.user
    if caller.user.startswith("u") and (stored.user is None or stored.history is None):
        assert stored.faults
    assert set(stored.items) <= set(caller.items)
    for item, record in stored.items.items():
        assert (record is None) is item.startswith("x")
        assert record is None or record.values["name"] == f"features of {item}"


async def ask(store, caller):
    await asyncio.sleep(caller.after_ms / 1e3)
    reading = asyncio.create_task(store.read(caller.user, list(caller.items), caller.timeout_ms / 1e3))
    async with asyncio.timeout(caller.timeout_ms / 1e3 + 2.0):  # more than any machine's pause, less than for ever
        done, _ = await asyncio.wait({reading}, timeout=caller.leaves_ms / 1e3)
        if not done:
            reading.cancel()
        try:
            assert_own_or_told(caller, await reading)
        except (StoreUnavailableError, asyncio.CancelledError):
            return


@settings(max_examples=60, deadline=None)
@given(
    st.lists(TROUBLES, max_size=4),
    st.lists(st.just("sound"), max_size=12),
    st.lists(CALLERS, min_size=1, max_size=30),
    st.randoms(),
)
def test_nobody_ever_has_anothers_record_or_waits_beyond_its_time(troubles, sound, callers, draw):
    order = [*troubles, *sound, "sound"]
    draw.shuffle(order)

    async def storm():
        with tempfile.TemporaryDirectory() as folder:
            async with fake_redis(Path(folder), Trouble(order)) as server:
                store = store_at(server.url)
                await asyncio.gather(*(ask(store, caller) for caller in callers))
                async with asyncio.timeout(5):
                    await store.close()

    asyncio.run(storm())
