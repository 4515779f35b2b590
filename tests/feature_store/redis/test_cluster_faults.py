"""Clusters and sentinels that misbehave: redirections end, and nothing but sound replies is taken."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from feature_store.errors import StoreUnavailableError
from feature_store.redis.cluster_slots import SLOTS, SlotMap
from feature_store.store_settings import ReadLimits
from tests.feature_store.fake_redis import FakeRedis, array, bulk
from tests.feature_store.redis.fake_tcp import serving_tcp
from tests.feature_store.redis.stored_data import KEYS, features, hasty_store, reason_of

LIMITS = ReadLimits(connect_timeout_s=2.0, read_timeout_s=2.0)


def neighbours():
    """Two items that live in the same slot."""
    seen = {}
    while (slot := key_slot(KEYS.item(f"n{len(seen)}"))) not in seen:
        seen[slot] = f"n{len(seen)}"
    return seen[slot], f"n{len(seen)}"


NEIGHBOURS = neighbours()
OWNER_OF_KEY = {KEYS.user(f"u{number}"): f"u{number}" for number in range(5)} | {KEYS.item(f"i{n}"): f"i{n}" for n in range(50)}


class FakeNode(FakeRedis):
    """One node that serves every slot; ``answer_read`` answers GET and MGET."""

    def __init__(self, answer_read):
        super().__init__("", self.answer_all)
        self.answer_read = answer_read
        self.port = 0

    async def answer_all(self, command, writer):
        match command[0]:
            case b"CLUSTER":
                writer.write(b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n" + bulk(b"") + b":%d\r\n" % self.port)
            case b"ASKING":
                writer.write(b"+OK\r\n")
            case b"PING":
                writer.write(b"+PONG\r\n")
            case _:
                writer.write(await self.answer_read(command))

    @property
    def reads(self):
        return sum(command[0] in (b"GET", b"MGET") for command in self.commands)


async def properly(command):
    values = [features(OWNER_OF_KEY[key]) if key in OWNER_OF_KEY else None for key in command[1:]]
    return array(values) if command[0] == b"MGET" else bulk(values[0])


@pytest.fixture
async def node():
    node = FakeNode(properly)
    async with serving_tcp(node):
        yield node


@pytest.fixture
async def store(node):
    store = hasty_store(f"redis+cluster://127.0.0.1:{node.port}", limits=LIMITS)
    yield store
    await store.close()


@pytest.mark.parametrize("kind", [b"MOVED", b"ASK"])
async def test_a_node_that_redirects_to_itself_for_ever_is_asked_five_times(node, store, kind):
    async def redirect(command):
        return b"-%s 1 127.0.0.1:%d\r\n" % (kind, node.port)

    node.answer_read = redirect
    assert await reason_of(store.read("u1", [])) == "cluster_down"
    assert node.reads == 5 * 2  # features and history
    node.answer_read = properly
    assert (await store.read("u1", ["i1"])).user.owner == "u1"


async def test_a_node_that_always_says_try_again_is_asked_five_times(node, store):
    async def try_again(command):
        return await properly(command) if command[0] == b"GET" else b"-TRYAGAIN Multiple keys request during rehashing\r\n"

    node.answer_read = try_again
    assert await reason_of(store.read("u1", [*NEIGHBOURS])) == "cluster_down"
    assert node.reads == 2 + 1 + 4 * 2  # the user's keys, the two items together, then each for itself
    node.answer_read = properly
    assert (await store.read("u1", [])).user.owner == "u1"


async def test_redirections_that_take_their_time_end_by_the_deadline(node):
    async def slowly(command):
        await asyncio.sleep(0.15)
        return b"-MOVED 1 127.0.0.1:%d\r\n" % node.port

    node.answer_read = slowly
    store = hasty_store(f"redis+cluster://127.0.0.1:{node.port}", limits=ReadLimits(connect_timeout_s=0.2, read_timeout_s=0.2))
    assert await reason_of(store.read("u1", [])) == "timeout"
    assert node.reads < 5
    await store.close()


@pytest.mark.parametrize("host", [b"", b"127.0.0.1"])
async def test_a_redirection_is_followed_once_and_remembered(node, store, host):
    other = FakeNode(properly)
    async with serving_tcp(other):

        async def elsewhere(command):
            return b"-MOVED 1 %s:%d\r\n" % (host, other.port)

        node.answer_read = elsewhere
        assert (await store.read("u1", ["i1"])).user.owner == "u1"
        assert (node.reads, other.reads) == (3, 3)
        assert (await store.read("u1", ["i1"])).items["i1"].owner == "i1"
        assert (node.reads, other.reads) == (3, 6)


async def test_after_asking_the_next_read_goes_to_the_old_home_again(node, store):
    other = FakeNode(properly)
    async with serving_tcp(other):

        async def ask(command):
            return b"-ASK 1 127.0.0.1:%d\r\n" % other.port

        node.answer_read = ask
        for _ in range(2):
            assert (await store.read("u1", [])).user.owner == "u1"
        assert (node.reads, other.reads) == (4, 4)
        assert [command[0] for command in other.commands] == [b"ASKING", b"GET"] * 4


async def test_a_key_that_has_not_arrived_at_its_slots_next_home_is_read_from_the_old_one(node, store):
    """As Redis 6.2 redirects: by ASK as soon as one of several keys has left."""
    other = FakeNode(properly)
    first, second = NEIGHBOURS
    async with serving_tcp(other):

        async def old_home(command):
            gone = KEYS.item(second) in command[1:] or b":history:" in command[1]
            return b"-ASK 1 127.0.0.1:%d\r\n" % other.port if gone else await sound(command)

        async def new_home(command):
            return b"-TRYAGAIN Multiple keys request\r\n" if len(command) > 2 else await sound(command)

        async def sound(command):
            items = [features(item) if KEYS.item(item) in command[1:] else None for item in NEIGHBOURS]
            return array([item for item in items if item]) if command[0] == b"MGET" else await properly(command)

        node.answer_read, other.answer_read = old_home, new_home
        stored = await store.read("u1", [first, second])
        assert (stored.user.owner, stored.history) == ("u1", None)
        assert {item: record.owner for item, record in stored.items.items()} == {first: first, second: second}


async def test_values_of_another_type_are_told_and_the_connection_stays(node, store):
    async def wrong_user(command):
        wrong = command[0] == b"GET" and b":user:" in command[1]
        return b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n" if wrong else await properly(command)

    node.answer_read = wrong_user
    for _ in range(2):
        stored = await store.read("u1", ["i1"])
        assert (stored.user, stored.faults, stored.items["i1"].owner) == (None, ("user_wrong_type",), "i1")
    assert node.connections <= 2  # one that asked for the slots, one that read


async def test_all_that_concerns_a_node_is_written_before_its_first_reply_is_there(node, store):
    await store.read("u1", [])
    heard = []

    async def answer_at_last(command):
        heard.append(command[0])
        return b"" if len(heard) < 4 else b"".join([await properly(each) for each in node.commands[-4:]])

    node.answer_read = answer_at_last
    stored = await store.read("u1", ["i1", "i2"])
    assert (stored.user.owner, stored.items["i1"].owner, stored.items["i2"].owner) == ("u1", "i1", "i2")
    assert heard == [b"GET", b"GET", b"MGET", b"MGET"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"-CLUSTERDOWN The cluster is down\r\n", "cluster_down"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-NOPERM this user has no permissions to run the 'mget' command\r\n", "noauth"),
        (b"-CROSSSLOT Keys in request don't hash to the same slot\r\n", "unknown"),
        (b"-MOVED nonsense\r\n", "unknown"),
        (b"-MOVED 1 127.0.0.1:1\r\n", "refused"),
        (b"+OK\r\n", "protocol"),
        (b"*1\r\n$-1\r\n" + b"*0\r\n", "protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol"),
        (b"*2\r\n$-1\r\n:1\r\n", "protocol"),
    ],
)
async def test_every_reply_but_a_sound_one_has_its_reason_and_the_next_read_is_sound(node, store, reply, reason):
    async def strangely(command):
        return reply

    node.answer_read = strangely
    assert await reason_of(store.read("u1", ["i1"])) == reason
    node.answer_read = properly
    for _ in range(100):
        with contextlib.suppress(StoreUnavailableError):  # a slot that moved to nowhere is looked up anew within 0.2 s
            stored = await store.read("u2", ["i1"])
            break
        await asyncio.sleep(0.02)
    assert (stored.user.owner, stored.items["i1"].owner, stored.faults) == ("u2", "i1", ())


async def test_bytes_left_over_after_a_reply_never_reach_the_next_reader(node, store):
    async def twice(command):
        return await properly(command) * (2 if b":history:" in command[1] else 1)

    for number in range(5):
        node.answer_read = twice
        with contextlib.suppress(StoreUnavailableError):
            stored = await store.read(f"u{number}", [])
            assert (stored.user.owner, stored.faults) == (f"u{number}", ())
        await asyncio.sleep(0.005)


async def test_replies_that_follow_a_refusal_late_never_reach_the_next_reader(node, store):
    async def refuse_users_and_delay_items(command):
        if b":user:" in command[1]:
            return b"-NOPERM this user has no permissions\r\n"
        await asyncio.sleep(0.05)
        return await properly(command)

    for _ in range(3):
        node.answer_read = refuse_users_and_delay_items
        assert await reason_of(store.read("u1", ["i1"])) == "noauth"
        node.answer_read = properly
        stored = await store.read("u2", ["i1"])
        assert (stored.user.owner, stored.faults) == ("u2", ())


async def test_a_reply_for_another_owner_drops_the_connections_that_brought_it(node, store):
    async def mixed_up(command):
        return bulk(features("u2")) if command[1] == KEYS.user("u1") else await properly(command)

    node.answer_read = mixed_up
    await store.read("u2", ["i1"])
    opened = node.connections
    stored = await store.read("u1", ["i1"])
    assert (stored.user, stored.faults) == (None, ("user_owner_mismatch",))
    await store.read("u2", ["i1"])
    assert node.connections == opened + 1


async def test_fifty_items_cost_one_exchange_and_callers_that_leave_do_no_harm(node, store):
    items = [f"i{number}" for number in range(50)]
    await store.read("u1", items)
    for _ in range(10):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.read("u1", items), 0.0001)
        stored = await store.read("u2", items)
        assert {item: record.owner for item, record in stored.items.items()} == {item: item for item in items}
        assert (stored.user.owner, stored.faults) == ("u2", ())


@pytest.mark.parametrize(
    "reply", [b"+OK\r\n", b"*1\r\n:3\r\n", b"*1\r\n*3\r\n:0\r\n:99999\r\n*2\r\n$1\r\nh\r\n:1\r\n", b"*0\r\n", b"-ERR no\r\n"]
)
async def test_a_slot_map_that_is_none_is_refused_and_asked_for_again(node, store, reply):
    answer_all = node.answer

    async def strangely(command, writer):
        writer.write(reply)

    node.answer = strangely
    assert await reason_of(store.read("u1", [])) in {"protocol", "cluster_down", "unknown"}
    node.answer = answer_all
    await asyncio.sleep(0.25)
    with contextlib.suppress(StoreUnavailableError):
        await store.read("u1", [])
    await asyncio.sleep(0.25)
    assert (await store.read("u1", [])).user.owner == "u1"


@given(st.lists(st.tuples(st.integers(0, SLOTS - 1), st.integers(0, SLOTS - 1), st.integers(1, 5)), max_size=8))
def test_the_slot_map_says_what_the_reply_says(ranges):
    reply = [[min(a, b), max(a, b), [b"host", port, b"id"], [b"replica", 9]] for a, b, port in ranges]
    slots = SlotMap(reply, ("asked", 1))
    for slot in range(0, SLOTS, 97):
        owners = [("host", row[2][1]) for row in reply if row[0] <= slot <= row[1]]
        if owners:
            assert slots.owner(slot) == owners[-1]
        else:
            with pytest.raises(StoreUnavailableError, match="cluster_down"):
                slots.owner(slot)
