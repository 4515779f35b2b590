"""A thousand spoilt values in a real server: what is scored is the truth or the declared defaults, and the loss is told."""

import random
import time

import numpy as np
import pytest

from feature_store.encoding.categories import CategoryColumn, HashedIds, VocabularyIds
from feature_store.encoding.encoder import FeatureEncoder, ViewEncoder
from feature_store.encoding.numbers import NumberColumn
from feature_store.item_cache import CacheRule, ItemCache
from feature_store.keys import KeySpace
from feature_store.online import OnlineFeatures
from feature_store.records import (
    MAX_FEATURE_BYTES,
    MAX_HISTORY_BYTES,
    encode_features,
    encode_history,
    feature_record,
    history_record,
)
from feature_store.redis.reader import RedisStore
from feature_store.store_settings import ReadLimits
from service.ranking.encode import encode_query
from service.ranking.query import RankQuery

MUTATIONS = 1_000
KEYS = KeySpace()
NOTHING = ViewEncoder((), ())
USER = {"country": "se", "age": 31, "likes": ["jazz", "folk"]}
ITEM = {"genres": ["x", "y"], "price": 14.0}
ITEMS, TIMES = ["i1", "i2", "i3"], [10.0, 20.0, 30.0]
RECORDS = {
    "user": encode_features(feature_record("u1", 5.0, USER, written_at=7.0)),
    "history": encode_history(history_record("u1", ITEMS, TIMES, written_at=7.0)),
    "item": encode_features(feature_record("i1", 5.0, ITEM, written_at=7.0)),
}
KEY_OF = {"user": KEYS.user("u1"), "history": KEYS.history("u1"), "item": KEYS.item("i1")}
OTHERS = {
    "user": encode_features(feature_record("u2", 5.0, USER, written_at=7.0)),
    "history": encode_history(history_record("u2", ITEMS, TIMES, written_at=7.0)),
    "item": encode_features(feature_record("i2", 5.0, ITEM, written_at=7.0)),
}


def hashed(name, slots=1):
    return CategoryColumn(name, HashedIds(name, 1 << 20), slots=slots, multiple=slots > 1)


ENCODER = FeatureEncoder(
    {
        "user": ViewEncoder(
            (hashed("country"), hashed("likes", 2)), (NumberColumn("age", "none", fill=-1.0, shift=0.0, scale=1.0),)
        ),
        "context": NOTHING,
        "item": ViewEncoder(
            (CategoryColumn("item", VocabularyIds(("i1", "i2", "i3")), slots=1, multiple=False), hashed("genres", 2)),
            (NumberColumn("price", "none", fill=-1.0, shift=0.0, scale=1.0),),
        ),
        "candidate": NOTHING,
    },
    "item",
    5,
)
QUERY = RankQuery(request_id="r", user_id="u1", candidates=("i1",), deadline=time.monotonic() + 1e6)


def flipped(value, draw):
    spoilt = bytearray(value)
    for _ in range(draw.randint(1, 3)):
        spoilt[draw.randrange(len(spoilt))] ^= 1 << draw.randrange(8)
    return bytes(spoilt)


def byte_replaced(value, draw):
    place = draw.randrange(len(value))
    return value[:place] + bytes([value[place] ^ draw.randint(1, 255)]) + value[place + 1 :]


SPOIL = {
    "flipped": flipped,
    "byte replaced": byte_replaced,
    "cut": lambda value, draw: value[: draw.randrange(len(value))],
    "longer": lambda value, draw: value + draw.randbytes(draw.randint(1, 20)),
    "garbage": lambda value, draw: draw.randbytes(draw.randint(1, 200)),
}
WRONG_TYPES = {
    "list": lambda client, key: client.rpush(key, b"x"),
    "hash": lambda client, key: client.hset(key, b"country", b"no"),
    "set": lambda client, key: client.sadd(key, b"x"),
    "sorted set": lambda client, key: client.zadd(key, {b"x": 1}),
    "stream": lambda client, key: client.xadd(key, {b"x": b"y"}),
}


def spoil(client, kind, draw):
    """Put a spoilt value in the place of a sound one; gives how it was spoilt."""
    way = draw.choices(["bytes", "type", "oversized", "another's"], [80, 10, 2, 8])[0]
    key = KEY_OF[kind]
    client.delete(key)
    if way == "type":
        way = draw.choice(list(WRONG_TYPES))
        WRONG_TYPES[way](client, key)
    elif way == "oversized":
        client.set(key, RECORDS[kind] + bytes(MAX_HISTORY_BYTES if kind == "history" else MAX_FEATURE_BYTES))
    elif way == "another's":
        client.set(key, OTHERS[kind])
    else:
        way = draw.choice(list(SPOIL))
        client.set(key, SPOIL[way](RECORDS[kind], draw))
    return way


async def outcome(store):
    """Inputs, freshness and faults of one request with nothing cached."""
    features = OnlineFeatures(store, ItemCache(CacheRule(capacity=10)))
    fetched = await features.fetch("u1", ["i1"], ENCODER, 30.0)
    assert fetched.unavailable is None
    return fetched, encode_query(ENCODER, QUERY, fetched, uses_history=True, attention=False)


def part(inputs, kind):
    names = [name for name in sorted(inputs) if name.startswith(kind)]
    return np.concatenate([inputs[name].ravel().astype(np.float64) for name in names]).tolist()


DEFAULTS = {"user": [0.0, 0.0, 0.0, -1.0], "history": [0.0] * 5, "item": [2.0, 0.0, 0.0, -1.0]}


def told(kind, way, fetched):
    """Whether the answer names the loss of the part by a fault; an item of another type counts as one that is not known."""
    if kind == "item" and way in WRONG_TYPES:
        return fetched.unknown_items == 1
    faults = [fault for fault in fetched.faults if fault.startswith(f"{kind}_")]
    return faults == [f"{kind}_wrong_type"] if way in WRONG_TYPES else len(faults) == 1


@pytest.fixture
async def store(valkey_url):
    limits = ReadLimits(connect_timeout_s=30.0, read_timeout_s=30.0, pool_timeout_s=30.0)
    store = RedisStore.from_url(valkey_url, limits=limits)
    yield store
    await store.close()


def write_sound(client):
    for kind, key in KEY_OF.items():
        client.delete(key)
        client.set(key, RECORDS[kind])


@pytest.mark.parametrize("seed", range(4))
async def test_spoilt_values_are_never_scored_and_always_told(valkey, store, seed):
    draw = random.Random(seed)
    write_sound(valkey)
    fetched, encoded = await outcome(store)
    truth = {kind: part(encoded.request.inputs, kind) for kind in RECORDS}
    assert (encoded.missing, fetched.faults, fetched.unknown_items) == ((), (), 0)
    assert all(truth[kind] != DEFAULTS[kind] for kind in RECORDS)
    for number in range(MUTATIONS // 4):
        kind = draw.choice(list(RECORDS))
        write_sound(valkey)
        way = spoil(valkey, kind, draw)
        fetched, encoded = await outcome(store)
        got = {each: part(encoded.request.inputs, each) for each in RECORDS}
        for other in RECORDS.keys() - {kind}:
            assert got[other] == truth[other], (number, kind, way, other)
        assert got[kind] == DEFAULTS[kind], (number, kind, way)
        assert told(kind, way, fetched), (number, kind, way)


@pytest.mark.parametrize("way", WRONG_TYPES)
async def test_a_value_of_another_redis_type_is_a_users_fault_and_an_unknown_item(valkey, store, way):
    """Of an item, MGET answers nil: not told apart from absence here, but by ``inspect``."""
    write_sound(valkey)
    for key in KEY_OF.values():
        valkey.delete(key)
        WRONG_TYPES[way](valkey, key)
    fetched, encoded = await outcome(store)
    assert (fetched.user, fetched.history_version, fetched.unknown_items) == (None, None, 1)
    assert fetched.faults == ("user_wrong_type", "history_wrong_type")
    assert encoded.missing == ("age", "country", "likes")
