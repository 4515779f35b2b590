"""Tables into the store: what a slow and plain reading of the tables gives, once or twice, and counted."""

import json
import time

import polars as pl
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.__main__ import main
from feature_store.embedded import EmbeddedStore
from feature_store.errors import MaterializeError, RecordRefusedError, StoreUnavailableError
from feature_store.keys import KeySpace
from feature_store.materialize import materialize, user_histories, values_to_write, write_history
from feature_store.records import decode_features, decode_history, encode_history, history_record
from feature_store.redis.writer import RedisWriter
from feature_store.tables import HISTORY_EVENT, ITEM_KEY, TIME, USER_KEY, EntityTables, read_tables
from feature_store.views import load_views

KEYS = KeySpace()
VIEWS = """
name: shop
tables: {interactions: interactions.csv, users: users.csv, items: items.csv}
interactions: {time: ts}
user:
  key: uid
  fields:
    - {name: country, kind: category, column: land}
    - {name: age, kind: number}
item:
  key: iid
  fields:
    - {name: item, kind: category, column: iid}
    - {name: genres, kind: categories, separator: "|"}
labels: [{name: click, column: clicked}]
history: {length: 3, where: {column: stars, at_least: 4}}
"""
USERS = "uid,land,age,secret\nu1,no,31,x\nu2,,,y\n7,se,40.5,z\n"
ITEMS = "iid,genres\na,Drama|War\nb,\nc,Comedy\n"
INTERACTIONS = """uid,iid,ts,clicked,stars
u1,a,10,1,5
u1,b,5,0,4
u1,c,7,0,3
u1,c,10,1,4
u1,a,20,1,5
u1,b,30,1,5
7,c,1,1,4
newcomer,a,2,0,5
"""


@pytest.fixture
def views_path(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text in {"views.yaml": VIEWS, "users.csv": USERS, "items.csv": ITEMS, "interactions.csv": INTERACTIONS}.items():
        (folder / name).write_text(text)
    return folder / "views.yaml"


@pytest.fixture
def shop(views_path):
    views = load_views(views_path)
    return views, read_tables(views, views_path.parent)


@pytest.fixture
async def writer(valkey_url):
    writer = RedisWriter.from_url(valkey_url)
    yield writer
    await writer.close()


def everything(client: redis.Redis) -> dict[bytes, bytes]:
    return {key: client.get(key) for key in client.scan_iter() if key not in (KEYS.meta, KEYS.item_changes)}


def history_of(client: redis.Redis, user: str):
    return decode_history(client.get(KEYS.history(user)), user)


async def test_declared_fields_are_written_by_name_and_missing_values_are_left_out(shop, writer, valkey):
    views, tables = shop
    await materialize(tables, views, writer)
    users = {user: decode_features(valkey.get(KEYS.user(user)), user) for user in ("u1", "u2", "7")}
    assert {user: record.values for user, record in users.items()} == {
        "u1": {"country": "no", "age": 31.0},
        "u2": {},
        "7": {"country": "se", "age": 40.5},
    }
    items = {item: decode_features(valkey.get(KEYS.item(item)), item) for item in "abc"}
    assert items["a"].values == {"item": "a", "genres": ["Drama", "War"]}
    assert items["b"].values == {"item": "b"}
    assert {record.event_time for record in [*users.values(), *items.values()]} == {30.0}


async def test_a_history_is_the_newest_events_that_count_oldest_first_ties_in_table_order(shop, writer, valkey):
    views, tables = shop
    await materialize(tables, views, writer)
    record = history_of(valkey, "u1")
    assert abs(record.written_at - time.time()) < 60
    assert (record.items, record.times) == (["c", "a", "b"], [10.0, 20.0, 30.0])
    assert record.version == 5


async def test_every_user_of_either_table_has_a_history_if_only_an_empty_one(shop, writer, valkey):
    views, tables = shop
    done = await materialize(tables, views, writer)
    assert (done.users, done.items, done.histories, done.as_of) == (3, 3, 4, 30.0)
    assert (history_of(valkey, "u2").items, history_of(valkey, "u2").version) == ([], 0)
    assert history_of(valkey, "newcomer").items == ["a"]
    assert valkey.get(KEYS.user("newcomer")) is None


async def test_until_leaves_out_what_happened_at_that_moment_or_later(shop, writer, valkey):
    views, tables = shop
    done = await materialize(tables, views, writer, until=10)
    assert (history_of(valkey, "u1").items, done.as_of) == (["b"], 10.0)


async def test_a_second_run_writes_the_same_bytes_and_a_later_one_leaves_nothing_stale(shop, writer, valkey):
    views, tables = shop
    await materialize(tables, views, writer, wall_clock=lambda: 1e9)
    first = everything(valkey)
    await materialize(tables, views, writer, wall_clock=lambda: 1e9)
    assert everything(valkey) == first
    none = EntityTables(tables.interactions.clear(), tables.users, tables.items)
    await materialize(none, views, writer, replace=True)
    assert history_of(valkey, "u1").items == []
    assert history_of(valkey, "u1").version == 6, "one version never stands for two histories"
    assert everything(valkey).keys() == first.keys()


def plus_event(tables, user, item, at):
    """The tables with one more event that counts."""
    newest = tables.interactions.filter(pl.col(HISTORY_EVENT)).tail(1)
    time_type = tables.interactions.schema[TIME]
    more = newest.with_columns(
        pl.lit(user).alias(USER_KEY), pl.lit(item).alias(ITEM_KEY), pl.lit(at).cast(time_type).alias(TIME)
    )
    return EntityTables(pl.concat([tables.interactions, more]), tables.users, tables.items)


async def test_a_batch_and_live_events_lose_nothing_of_each_other(shop, writer, valkey):
    views, tables = shop
    await materialize(tables, views, writer)
    valkey.set(KEYS.history("u1"), encode_history(history_record("u1", ["a", "b", "c"], [20.0, 30.0, 35.0], version=6)))
    await materialize(plus_event(tables, "u1", "b", 33), views, writer)
    record = history_of(valkey, "u1")
    assert (record.items, record.times, record.version) == (["b", "b", "c"], [30.0, 33.0, 35.0], 7)


async def test_a_batch_that_has_the_live_event_by_now_does_not_double_it(shop, writer, valkey):
    views, tables = shop
    await materialize(tables, views, writer)
    valkey.set(KEYS.history("u1"), encode_history(history_record("u1", ["a", "b", "c"], [20.0, 30.0, 35.0], version=6)))
    await materialize(plus_event(tables, "u1", "c", 35), views, writer)
    record = history_of(valkey, "u1")
    assert (record.items, record.times, record.version) == (["a", "b", "c"], [20.0, 30.0, 35.0], 6)


async def test_a_broken_stored_history_gives_way_to_the_batch(shop, writer, valkey):
    views, tables = shop
    valkey.rpush(KEYS.history("u1"), "what")
    await materialize(tables, views, writer)
    assert history_of(valkey, "u1").items == ["c", "a", "b"]


async def test_the_meta_key_tells_what_was_written(shop, writer, valkey):
    views, tables = shop
    await materialize(tables, views, writer)
    meta = json.loads(valkey.get(KEYS.meta))
    assert {name: meta[name] for name in ("views", "users", "items", "histories", "history_length", "as_of")} == {
        "views": "shop",
        "users": 3,
        "items": 3,
        "histories": 4,
        "history_length": 3,
        "as_of": 30.0,
    }


async def test_progress_adds_up_to_the_announced_total(shop, writer):
    views, tables = shop
    steps = []
    await materialize(tables, views, writer, progress=steps.append)
    assert sum(steps) == values_to_write(tables) == 10


async def test_values_that_the_store_lost_are_missed_by_the_count(shop, writer, valkey):
    views, tables = shop

    def lose(_: int) -> None:
        valkey.delete(KEYS.item("a"))

    with pytest.raises(MaterializeError, match="items: 3 were written but the store holds 2"):
        await materialize(tables, views, writer, progress=lose)
    assert valkey.get(KEYS.meta) is None


async def test_a_value_too_large_to_be_read_is_named(shop, writer):
    views, tables = shop
    items = tables.items.with_columns(item=pl.lit("x" * 70_000))
    with pytest.raises(MaterializeError, match=r"features of 'a'.*bytes, more than"):
        await materialize(EntityTables(tables.interactions, tables.users, items), views, writer)


async def test_without_the_store_the_run_says_so(shop, tmp_path):
    views, tables = shop
    nowhere = RedisWriter.from_url(f"unix://{tmp_path}/nothing.sock", retries=0)
    with pytest.raises(StoreUnavailableError, match="refused"):
        await materialize(tables, views, nowhere)
    await nowhere.close()


async def test_one_history_can_be_replaced(writer, valkey):
    await write_history(writer, "u1", ["a", "b"], [1.0, 2.0])
    await write_history(writer, "u1", ["c"], [3.0])
    assert history_of(valkey, "u1").items == ["c"]
    with pytest.raises(RecordRefusedError, match="times fall"):
        await write_history(writer, "u1", ["c", "d"], [3.0, 2.0])


EVENT = st.tuples(st.sampled_from("uvw"), st.sampled_from("abcde"), st.integers(0, 6), st.booleans())


@settings(max_examples=60, deadline=None)
@given(events=st.lists(EVENT, max_size=40), length=st.integers(1, 5), until=st.none() | st.integers(0, 7))
def test_histories_equal_a_slow_reading_of_the_table(events, length, until):
    schema = {USER_KEY: pl.String, ITEM_KEY: pl.String, TIME: pl.Int64, HISTORY_EVENT: pl.Boolean}
    users = pl.DataFrame({USER_KEY: ["u", "x"]})
    tables = EntityTables(pl.DataFrame(events, schema=schema, orient="row"), users, pl.DataFrame({ITEM_KEY: []}))
    slow = {user: [] for user in ["u", "x", *(event[0] for event in events)]}
    for user, item, moment, counts in events:
        if counts and (until is None or moment < until):
            slow[user].append((moment, item))
    fast = {
        user: (items or [], times or [], version or 0)
        for user, items, times, version in user_histories(tables, length, until).iter_rows()
    }
    expected = {}
    for user, pairs in slow.items():
        ordered = sorted(pairs, key=lambda pair: pair[0])
        kept = ordered[-length:]
        expected[user] = ([item for _, item in kept], [float(moment) for moment, _ in kept], len(ordered))
    assert fast == expected


def test_the_command_fills_the_embedded_store_and_tells_the_counts(views_path, tmp_path, capsys):
    assert main(["materialize", str(views_path), "--embedded", str(tmp_path / "store"), "--prefix", "shop"]) == 0
    out = capsys.readouterr()
    assert "materialized shop under shop: 3 users, 3 items, 4 histories as of 30, counted in the store" in out.out
    assert out.err == ""
    with EmbeddedStore(tmp_path / "store") as store, redis.Redis.from_url(store.url) as client:
        assert history_of_prefix(client, "shop", "u1") == ["c", "a", "b"]


def history_of_prefix(client: redis.Redis, prefix: str, user: str) -> list[str]:
    return decode_history(client.get(KeySpace(prefix).history(user)), user).items


def test_the_command_writes_into_a_named_redis(views_path, valkey_url, valkey):
    assert main(["materialize", str(views_path), "--redis", valkey_url, "--until", "1970-01-01T00:00:20"]) == 0
    assert history_of(valkey, "u1").items == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views.yaml": "name: shop"}, "views.yaml: user: is missing"),
        ({"views.yaml": None}, "No such file"),
        ({"users.csv": "uid,land,age\nu1,no,old\n"}, "users.csv, row 1, column age"),
    ],
)
def test_the_command_says_what_is_wrong_with_the_data(views_path, tmp_path, capsys, change, message):
    for name, text in change.items():
        (views_path.parent / name).unlink()
        if text is not None:
            (views_path.parent / name).write_text(text)
    assert main(["materialize", str(views_path), "--embedded", str(tmp_path / "store")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--redis", "http://x"], "the store's URL must be"),
        (["--redis", "unix:///nowhere/socket"], "feature store unavailable: refused"),
        (["--redis", "unix:///nowhere/socket", "--prefix", "a{b"], "the key prefix must be"),
    ],
)
def test_the_command_says_why_it_cannot_use_a_store(views_path, capsys, options, message):
    assert main(["materialize", str(views_path), *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--until", "yesterday"], ["--until", "nan"], ["--redis", "x", "--embedded", "y"]])
def test_the_command_refuses_arguments_it_cannot_read(views_path, options, capsys):
    with pytest.raises(SystemExit):
        main(["materialize", str(views_path), *options])
    assert "error" in capsys.readouterr().err
