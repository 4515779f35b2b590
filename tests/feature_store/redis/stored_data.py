"""Records whose values name their owner, and reads that are tried until they are whole."""

import asyncio

import pytest

from feature_store.breaker import BreakerRule, CircuitBreaker
from feature_store.errors import StoreUnavailableError
from feature_store.keys import KeySpace
from feature_store.records import encode_features, encode_history, feature_record, history_record
from feature_store.redis.reader import RedisStore
from feature_store.redis.writer import RedisWriter
from feature_store.store_settings import ReadLimits

KEYS = KeySpace()
PATIENT = ReadLimits(connect_timeout_s=2.0, read_timeout_s=2.0, pool_timeout_s=2.0)
LEAST_RIGHTS = ("resetchannels", "~rankline:*", "+get", "+mget", "+exists", "+set", "+ping", "+select")
"""What an ACL must allow a user, to read and write records on a single server."""
EVENT_RIGHTS = (
    *("+eval", "+evalsha", "+del", "+incr", "+expire", "+xadd", "+xlen", "+xrange", "+xrevrange"),
    *("+zadd", "+zscore", "+zrevrange", "+zremrangebyrank"),
)
"""What it must allow, too: to apply, merge and export live events, and to announce and follow changed items."""
USERS = tuple(f"u{number}" for number in range(20))
ITEMS = tuple(f"i{number}" for number in range(100))


def features(owner):
    return encode_features(feature_record(owner, 5.0, {"name": f"features of {owner}"}, written_at=7.0))


def pairs_of_everyone():
    users = [(KEYS.user(user), features(user)) for user in USERS]
    histories = [
        (KEYS.history(user), encode_history(history_record(user, [f"{user}/1"], [1.0], written_at=7.0))) for user in USERS
    ]
    return [*users, *histories, *((KEYS.item(item), features(item)) for item in ITEMS)]


async def write_everyone(url):
    writer = RedisWriter.from_url(url)
    try:
        pairs = pairs_of_everyone()
        await writer.write_many(pairs)
        return await writer.count([*(key for key, _ in pairs), KEYS.item("absent")])
    finally:
        await writer.close()


def hasty_store(url, failures=10**9, limits=PATIENT):
    """A store whose breaker probes often, or never opens."""
    return RedisStore.from_url(url, limits=limits, breaker=CircuitBreaker(BreakerRule(failures, 0.01, 0.02)))


async def assert_whole(store, user="u1"):
    """Everything read belongs to who was asked for, and nothing is missing."""
    stored = await store.read(user, [*ITEMS, "absent"])
    assert (stored.user.values, stored.history.items, stored.faults) == ({"name": f"features of {user}"}, [f"{user}/1"], ())
    names = {item: record and record.values["name"] for item, record in stored.items.items()}
    assert names == {**{item: f"features of {item}" for item in ITEMS}, "absent": None}


async def reason_of(call):
    with pytest.raises(StoreUnavailableError) as error:
        await call
    return error.value.reason


async def reasons_until_whole(store, user="u1", within_s=20.0):
    """The reasons of the failing reads, one after another, until one is whole."""
    reasons = []
    async with asyncio.timeout(within_s):
        while True:
            try:
                await assert_whole(store, user)
                return reasons
            except StoreUnavailableError as error:
                reasons.append(error.reason)
                await asyncio.sleep(0.005)


async def reasons_until_out(store, within_s=20.0):
    """Read until a read fails, and give its reason; whatever is read before that is whole."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                await assert_whole(store)
            except StoreUnavailableError as error:
                return error.reason
