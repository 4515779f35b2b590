"""What could lose an applied event, apply it twice or let a version fall, in a real server: none of it does."""

import pytest

from feature_store.errors import StoreRewoundError, StoreUnavailableError
from feature_store.events.ports import SpoolMark
from feature_store.records import history_record
from feature_store.redis import script_runs
from feature_store.redis.events import EventRule, RedisEvents
from feature_store.redis.script_runs import open_scripts
from feature_store.redis.writer import RedisWriter
from tests.feature_store.redis.event_data import KEYS, LENGTH, apply, click, history_of, views


@pytest.fixture
def client(any_server):
    with any_server.client() as client:
        yield client


@pytest.fixture
async def store(any_server):
    events = RedisEvents(open_scripts(any_server.url, 5.0), KEYS, views())
    yield events
    await events.close()


@pytest.fixture
async def writer(any_server):
    writer = RedisWriter.from_url(any_server.url)
    yield writer
    await writer.close()


@pytest.mark.parametrize("kinds", [("view",), ("click", "view", "view", "view")])
async def test_the_newest_ids_are_remembered_whether_or_not_events_enter_the_history(any_server, client, kinds):
    store = RedisEvents(open_scripts(any_server.url, 5.0), KEYS, views(), EventRule(LENGTH, (10.0,), remembered_ids=50))
    sent = [click("a", n, kind=kinds[n % len(kinds)]) for n in range(200)]
    told = []
    for start in range(0, 200, 10):
        told += await apply(store, sent[start : start + 10])
    again = await apply(store, sent[150:])
    assert [each.fresh for each in again] == [False] * 50
    assert [each.version for each in again] == [each.version for each in told[150:]]
    assert client.zcard(KEYS.seen("u")) == 50
    assert all(each.fresh for each in await apply(store, sent[:100]))
    await store.close()


@pytest.mark.parametrize("taken", ["-get", "-zrevrange", "-zscore", "-xadd", "-incr", "-zadd"])
async def test_a_missing_right_destroys_nothing_and_the_event_enters_once_it_is_given(any_server, client, store, taken):
    await apply(store, [click("a", 1)])
    before = contents(client)
    client.execute_command("ACL", "SETUSER", "limited", "on", ">pw", "~*", "+@all", taken)
    limited = RedisEvents(open_scripts(any_server.url.replace("://", "://limited:pw@"), 5.0), KEYS, views())
    event = click("b", 2)
    with pytest.raises(StoreUnavailableError):
        await limited.apply([event], SpoolMark("s", 1, 2))
    written_before_it = {KEYS.event_log, KEYS.event_count, KEYS.history("u"), KEYS.user_counters("u"), KEYS.item_counters("b")}
    changed = {key for key, value in contents(client).items() if before.get(key) != value}
    assert changed <= written_before_it if taken in ("-xadd", "-zadd") else not changed
    client.execute_command("ACL", "SETUSER", "limited", "+@all")
    await limited.apply([event], SpoolMark("s", 1, 2))
    await limited.close()
    client.execute_command("ACL", "DELUSER", "limited")
    assert history_of(client).items == ["a", "b"]
    assert store.resets == limited.resets == 0


def contents(client):
    return {key: client.dump(key) for key in client.keys("*") if b":spool:" not in key}


@pytest.mark.parametrize("count", ["1.5", "0x10", "1e3", "what", "", "9223372036854775807"])
async def test_a_count_that_cannot_grow_leaves_everything_as_it_was(store, client, count):
    client.set(KEYS.event_count, count)
    event = click("a", 1)
    with pytest.raises(StoreUnavailableError):
        await apply(store, [event])
    assert contents(client).keys() == {KEYS.event_count}
    client.delete(KEYS.event_count)
    assert (await apply(store, [event]))[0].fresh
    assert history_of(client).items == ["a"]


@pytest.mark.parametrize("first", [True, False])
async def test_a_store_emptied_between_the_events_and_the_mark_gets_no_mark(store, client, monkeypatch, first):
    mark = SpoolMark("s", None, 1)
    if not first:
        await store.apply([click("a", 1)], mark)
        mark = SpoolMark("s", 1, 2)
    ask_many, runs = script_runs._ask_many, 0

    async def emptied_after(connection, commands):
        nonlocal runs
        replies = await ask_many(connection, commands)
        runs += 1
        if runs == 2:  # the scripts were unknown at the first try, or nothing was left to do
            client.flushall()
        return replies

    monkeypatch.setattr(script_runs, "_ask_many", emptied_after)
    with pytest.raises(StoreRewoundError) as error:
        await store.apply([click("b", 2)], mark)
    assert (error.value.applied_through, (await store.applied_through("s")).sure) == (None, None)


@pytest.mark.parametrize("lost", ["deleted", "broken"])
@pytest.mark.parametrize("replace", [False, True])
async def test_a_merge_into_a_lost_history_goes_on_from_the_version_that_was_told(store, client, writer, lost, replace):
    await apply(store, [click(item, time) for time, item in enumerate("abc")])
    if lost == "deleted":
        client.delete(KEYS.history("u"))
    else:
        client.set(KEYS.history("u"), b"\xc1garbage")
    await writer.merge_histories([history_record("u", ["x"], [0.5])], LENGTH, replace=replace)
    assert history_of(client).items == ["x"]
    assert history_of(client).version >= 3
    assert (await apply(store, [click("d", 9)]))[0].version >= 4


async def test_an_older_history_put_back_does_not_make_versions_fall(store, client):
    await apply(store, [click("a", 1)])
    old = client.get(KEYS.history("u"))
    await apply(store, [click("b", 2), click("c", 3)])
    client.set(KEYS.history("u"), old)
    assert (await apply(store, [click("d", 4)]))[0].version == 4


async def test_a_history_of_long_ids_keeps_what_readers_accept(any_server, client):
    store = RedisEvents(open_scripts(any_server.url, 5.0), KEYS, views(length=10_000))
    ids = [f"{n}".rjust(250, "x") for n in range(2_560)]
    for start in range(0, len(ids), 256):
        await apply(store, [click(item, time) for time, item in enumerate(ids[start : start + 256], start)])
    history = history_of(client)
    assert (history.version, store.resets) == (2_560, 0)
    assert len(history.items) > 1_500
    assert history.items == ids[-len(history.items) :]
    await store.close()


async def test_more_events_of_one_user_than_a_step_takes_keep_their_order(store, client):
    sent = [click(f"i{n}", n // 3) for n in range(300)]
    assert [each.version for each in await apply(store, [*sent, sent[0]])] == [*range(1, 301), 1]
    assert history_of(client).items == [event.item_id for event in sent[-LENGTH:]]
    numbers = [int(fields[b"n"]) for _, fields in client.xrange(KEYS.event_log)]
    assert numbers == list(range(1, 301))
