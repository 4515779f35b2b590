"""Live events in a real server: each applied once, in event order, whatever the order and number of their arrivals."""

import random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.counters import counts_at, decode_counters
from feature_store.errors import StoreRewoundError, StoreUnavailableError
from feature_store.events.event import decode_event
from feature_store.events.ports import SpoolMark
from feature_store.records import encode_history, history_record
from feature_store.redis.events import EventRule, RedisEvents
from feature_store.redis.script_runs import open_scripts
from tests.feature_store.redis.event_data import KEYS, LENGTH, apply, click, history_of, views


@pytest.fixture
def valkey(any_server):
    with any_server.client() as client:
        yield client


@pytest.fixture
def valkey_url(any_server):
    return any_server.url


@pytest.fixture
async def store(valkey_url):
    events = RedisEvents(open_scripts(valkey_url, 5.0), KEYS, views())
    yield events
    await events.close()


async def test_an_event_enters_the_history_and_its_version_is_told(store, valkey):
    assert [(each.fresh, each.version) for each in await apply(store, [click("a", 1), click("b", 2)])] == [
        (True, 1),
        (True, 2),
    ]
    history = history_of(valkey)
    assert (history.items, history.times, history.version) == (["a", "b"], [1.0, 2.0], 2)


async def test_a_type_that_is_no_history_is_counted_but_does_not_enter(store, valkey):
    (applied,) = await apply(store, [click("a", 1, kind="view")])
    assert (applied.fresh, applied.version) == (True, 0)
    assert valkey.get(KEYS.history("u")) is None
    assert counts_at(decode_counters(valkey.get(KEYS.user_counters("u")), "u"), 1.0)["view"].count == 1


async def test_an_event_that_comes_again_changes_nothing_and_is_told_its_version(store, valkey):
    first, second = click("a", 1), click("b", 2)
    await apply(store, [first, second])
    before = {key: valkey.dump(key) for key in valkey.keys("*") if b"spool" not in key}
    again = await apply(store, [second, first, first])
    assert [(each.fresh, each.version) for each in again] == [(False, 2), (False, 1), (False, 1)]
    assert {key: valkey.dump(key) for key in valkey.keys("*") if b"spool" not in key} == before


async def test_late_events_find_their_place_and_too_old_ones_do_not_enter(store, valkey):
    await apply(store, [click(item, time) for item, time in zip("abcde", (10, 20, 30, 40, 50), strict=True)])
    await apply(store, [click("late", 25)])
    (old,) = await apply(store, [click("old", 5)])
    assert (old.fresh, old.version) == (True, 6)
    assert history_of(valkey).items == ["b", "late", "c", "d", "e"]


async def test_the_event_that_a_batch_brought_already_does_not_enter_twice(store, valkey):
    valkey.set(KEYS.history("u"), encode_history(history_record("u", ["a", "b"], [1.5, 2.5])))
    (applied,) = await apply(store, [click("b", 2.5)])
    assert (applied.fresh, applied.version) == (True, 2)
    assert history_of(valkey).items == ["a", "b"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_any_order_of_arrival_any_batches_and_repeats_give_the_history_in_event_order(store, valkey, data):
    valkey.flushall()
    times = data.draw(st.lists(st.integers(0, 10**15), min_size=1, max_size=30, unique=True))
    events = [click(f"i{place % 7}", time / 7) for place, time in enumerate(times)]
    sent = events + data.draw(st.lists(st.sampled_from(events), max_size=10))
    data.draw(st.randoms(use_true_random=False)).shuffle(sent)
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        await apply(store, sent[:size])
        sent = sent[size:]
    newest = sorted(events, key=lambda event: event.time)[-LENGTH:]
    history = history_of(valkey)
    assert (history.items, history.times) == ([event.item_id for event in newest], [event.time for event in newest])
    assert counts_at(decode_counters(valkey.get(KEYS.user_counters("u")), "u"), 0.0)["click"].count == len(events)


async def test_decayed_counts_equal_the_sum_over_all_events_in_any_order(store, valkey):
    times = [random.Random(3).uniform(0, 300) for _ in range(40)]
    for time in times:
        await apply(store, [click("a", time)])
    for key, owner in ((KEYS.user_counters("u"), "u"), (KEYS.item_counters("a"), "a")):
        counted = counts_at(decode_counters(valkey.get(key), owner), 400.0)["click"]
        assert counted.count == 40
        assert counted.newest == max(times)
        for half_life in (10.0, 100.0):
            assert counted.decayed[half_life] == pytest.approx(sum(2 ** (-(400 - time) / half_life) for time in times))
        assert counted.rate(100.0) == pytest.approx(counted.decayed[100.0] * 0.693147 / 100, rel=1e-5)


async def test_under_other_half_lives_the_totals_stay(store, valkey, valkey_url):
    await apply(store, [click("a", 1), click("a", 2)])
    other = RedisEvents(open_scripts(valkey_url, 5.0), KEYS, views(half_lives=(50.0,)))
    await apply(other, [click("a", 3)])
    await other.close()
    counted = counts_at(decode_counters(valkey.get(KEYS.user_counters("u")), "u"), 3.0)["click"]
    assert (counted.count, counted.decayed) == (3, {50.0: 1.0})


async def test_the_log_has_each_fresh_event_once_with_its_number_and_version(store, valkey):
    events = [click("a", 1), click("a", 2, kind="view"), click("b", 3, user="w")]
    await apply(store, events)
    await apply(store, [*events, click("c", 4)])
    entries = [fields for _, fields in valkey.xrange(KEYS.event_log)]
    assert [int(entry[b"n"]) for entry in entries] == [1, 2, 3, 4]
    found = [(decode_event(entry[b"e"]), int(entry[b"v"]), int(entry[b"h"])) for entry in entries]
    assert sorted(((event.item_id, event.user_id), version, entered) for event, version, entered in found) == [
        (("a", "u"), 1, 0),
        (("a", "u"), 1, 1),
        (("b", "w"), 1, 1),
        (("c", "u"), 2, 1),
    ]
    assert sorted(event.event_id for event, _, _ in found if event.item_id != "c") == [event.event_id for event in events]
    assert all(event in events for event, _, _ in found if event.item_id != "c")


async def test_a_lost_script_cache_costs_nothing(store, valkey):
    await apply(store, [click("a", 1)])
    valkey.script_flush()
    assert (await apply(store, [click("b", 2), click("c", 2, user="w")]))[0].version == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda valkey, key: valkey.set(key, b"\xc1garbage"),
        lambda valkey, key: valkey.set(key, msgspec.msgpack.encode([1, "u", 1, 0.0, ["a", "b"], [1.0]])),
        lambda valkey, key: valkey.set(key, msgspec.msgpack.encode([1, "u", 2, 0.0, ["a", "b"], [2.0, 1.0]])),
        lambda valkey, key: valkey.set(key, msgspec.msgpack.encode([1, "u", 2, 0.0, ["a", 7], [1.0, 2.0]])),
        lambda valkey, key: valkey.set(key, encode_history(history_record("somebody", ["a"], [1.0]))),
        lambda valkey, key: valkey.set(key, b"x" * 600_000),
        lambda valkey, key: (valkey.delete(key), valkey.rpush(key, "a")),
        lambda valkey, key: (valkey.delete(key), valkey.hset(key, "a", "b")),
    ],
)
async def test_a_broken_history_is_put_aside_and_told_and_its_version_still_grows(store, valkey, spoil):
    await apply(store, [click("a", 1), click("b", 2)])
    spoil(valkey, KEYS.history("u"))
    (applied,) = await apply(store, [click("c", 3)])
    assert (applied.fresh, applied.version) == (True, 3)
    assert (history_of(valkey).items, store.resets) == (["c"], 1)


@pytest.mark.parametrize("key", [KEYS.seen("u"), KEYS.user_counters("u"), KEYS.item_counters("a")])
async def test_other_keys_of_a_wrong_type_do_not_stop_events(store, valkey, key):
    valkey.lpush(key, "what")
    assert (await apply(store, [click("a", 1)]))[0].fresh
    assert history_of(valkey).items == ["a"]


@pytest.mark.parametrize("key", [KEYS.event_log, KEYS.event_count])
async def test_a_log_that_cannot_take_an_event_leaves_everything_as_it_was(store, valkey, key):
    valkey.lpush(key, "what")
    with pytest.raises(StoreUnavailableError):
        await apply(store, [click("a", 1)])
    assert {*valkey.keys()} - {KEYS.spool("s")} == {key}


async def test_memory_of_a_busy_user_stays_bounded(valkey, valkey_url):
    rule = EventRule(LENGTH, (10.0,), remembered_ids=50, log_events=100)
    store = RedisEvents(open_scripts(valkey_url, 5.0), KEYS, views(half_lives=(10.0,)), rule)
    for start in range(0, 4_000, 200):
        await apply(store, [click(f"i{n % 9}", n) for n in range(start, start + 200)])
    await store.close()
    assert valkey.zcard(KEYS.seen("u")) == 50
    assert len(history_of(valkey).items) == LENGTH
    assert valkey.xlen(KEYS.event_log) < 400
    assert history_of(valkey).version == 4_000


async def test_the_mark_moves_only_from_where_it_was_left(store, valkey):
    assert (await store.applied_through("s")).sure is None
    await store.apply([click("a", 1)], SpoolMark("s", None, 7))
    assert (await store.applied_through("s")).sure == 7
    assert (await store.applied_through("other")).sure is None
    valkey.set(KEYS.spool("s"), 5)  # the store came back without its last writes
    with pytest.raises(StoreRewoundError) as rewound:
        await store.apply([click("b", 2)], SpoolMark("s", 7, 8))
    assert (rewound.value.applied_through, (await store.applied_through("s")).sure) == (5, 5)
    valkey.set(KEYS.spool("s"), "what")
    assert (await store.applied_through("s")).sure is None


async def test_large_and_negative_times_keep_their_exact_value(store, valkey):
    times = [-1e15, -0.5, 0.0, 1_763_800_000.123456, 2.0**53 - 1]
    await apply(store, [click("a", time) for time in times])
    assert history_of(valkey).times == times


async def test_ids_of_any_text_survive(store, valkey):
    await apply(store, [click("ü{}%\U0001f600", 1, user="ä{b}")])
    assert history_of(valkey, "ä{b}").items == ["ü{}%\U0001f600"]
