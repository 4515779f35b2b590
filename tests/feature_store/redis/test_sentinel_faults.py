"""Sentinels that are silent, wrong or of two minds, and masters that are none any more."""

import asyncio
import contextlib

import pytest

from feature_store.errors import StoreUnavailableError
from feature_store.redis.topology import open_client
from feature_store.store_settings import ReadLimits
from tests.feature_store.fake_redis import FakeRedis, always, array, bulk
from tests.feature_store.redis.fake_tcp import serving_tcp
from tests.feature_store.redis.stored_data import features, hasty_store, reason_of

LIMITS = ReadLimits(connect_timeout_s=1.0, read_timeout_s=1.0)
REFUSED_WRITE = b"-READONLY You can't write against a read only replica.\r\n"


class FakeMaster(FakeRedis):
    """Holds the features of every user, marked by its own name."""

    def __init__(self, name, role=b"master"):
        super().__init__("", self.answer_all)
        self.role = role
        self.name = name
        self.port = 0

    async def answer_all(self, command, writer):
        match command[0]:
            case b"ROLE":
                writer.write(b"*3\r\n" + bulk(self.role) + b":0\r\n*0\r\n")
            case b"SET":
                writer.write(b"+OK\r\n" if self.role == b"master" else REFUSED_WRITE)
            case b"GET":
                owner = command[1].decode().partition("{")[2].removesuffix("}")
                writer.write(bulk(features(owner) if b":user:" in command[1] else None))

    @property
    def reads(self):
        return sum(command[0] == b"GET" and b":user:" in command[1] for command in self.commands)


class FakeSentinel(FakeRedis):
    """Names a master."""

    def __init__(self, master):
        super().__init__("", self.answer_all)
        self.master = master
        self.port = 0

    async def answer_all(self, command, writer):
        writer.write(array([b"127.0.0.1", b"%d" % self.master.port]))


@pytest.fixture
async def setup():
    """Two masters, and three sentinels that name the first."""
    masters = [FakeMaster("first"), FakeMaster("second")]
    sentinels = [FakeSentinel(masters[0]) for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        for fake in (*masters, *sentinels):
            await stack.enter_async_context(serving_tcp(fake))
        yield masters, sentinels


def url(sentinels):
    return "redis+sentinel://" + ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels) + "/features"


@pytest.fixture
async def store(setup):
    store = hasty_store(url(setup[1]), limits=LIMITS)
    yield store
    await store.close()


async def test_a_replica_that_sentinels_call_the_master_is_not_read(setup, store):
    setup[0][0].role = b"slave"
    assert await reason_of(store.read("u1", [])) == "readonly"
    assert setup[0][0].reads == 0
    setup[0][0].role = b"master"
    assert (await store.read("u1", [])).user.owner == "u1"


@pytest.mark.parametrize(
    "answer", [always(b""), always(b"-LOADING\r\n"), always(b"*-1\r\n"), always(b":1\r\n"), always(b"$3\r\nx")]
)
async def test_one_sentinel_of_three_that_is_silent_or_strange_is_in_nobodys_way(setup, store, answer):
    setup[1][1].answer = answer
    assert (await store.read("u1", [])).user.owner == "u1"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "timeout"),
        (b"*-1\r\n", "refused"),
        (b"-NOAUTH Authentication required.\r\n", "noauth"),
        (b"*2\r\n$1\r\nh\r\n$1\r\nx\r\n", "refused"),
    ],
)
async def test_sentinels_of_which_none_names_a_master_have_their_reason(setup, reply, reason):
    for sentinel in setup[1]:
        sentinel.answer = always(reply)
    store = hasty_store(url(setup[1]), limits=ReadLimits(connect_timeout_s=0.2, read_timeout_s=0.2))
    assert await reason_of(store.read("u1", [])) == reason
    await store.close()


async def test_the_master_that_most_sentinels_name_is_read(setup, store):
    masters, sentinels = setup
    sentinels[0].master = masters[1]
    await store.read("u1", [])
    assert [master.reads for master in masters] == [1, 0]


async def test_many_connections_opened_at_once_ask_each_sentinel_once(setup, store):
    await asyncio.gather(*(store.read(f"u{number}", []) for number in range(4 * 64)))  # four exchanges
    assert setup[0][0].connections == 4
    assert all(sentinel.connections <= 1 for sentinel in setup[1])
    await asyncio.gather(*(store.read(f"u{number}", []) for number in range(4 * 64)))  # four exchanges
    assert setup[0][0].connections == 4


async def test_a_master_that_sentinels_no_longer_name_is_left_though_its_connections_are_well(setup, store):
    masters, sentinels = setup
    await asyncio.gather(*(store.read("u1", []) for _ in range(3)))
    for sentinel in sentinels:
        sentinel.master = masters[1]
    async with asyncio.timeout(10):
        while masters[1].reads == 0:
            await store.read("u1", [])
            await asyncio.sleep(0.05)
    before = masters[0].reads
    await asyncio.gather(*(store.read("u1", []) for _ in range(10)))
    assert masters[0].reads == before


async def test_a_write_that_a_demoted_master_refuses_is_sent_to_the_next(setup):
    masters, sentinels = setup
    client = open_client(url(sentinels), timeout_s=2.0, retries=3, max_connections=2)
    await client.set("key", b"1")
    masters[0].role = b"slave"
    for sentinel in sentinels:
        sentinel.master = masters[1]
    await client.set("key", b"2")
    assert [b"SET", b"key", b"2"] in masters[1].commands
    await client.aclose()


async def test_a_caller_that_leaves_while_sentinels_are_asked_leaves_nothing_behind(setup, store):
    for sentinel in setup[1]:
        sentinel.answer = always(b"")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(store.read("u1", []), 0.01)
    for sentinel in setup[1]:
        sentinel.answer = sentinel.answer_all
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                assert (await store.read("u2", [])).user.owner == "u2"
                break
