"""``inspect``: what the ranker would see, whatever is stored, in text that no id can take over."""

import io
import json
import random
import sys
import time
from dataclasses import asdict

import msgspec
import pytest

from feature_store.__main__ import main
from feature_store.commands.inspect import user_seen
from feature_store.counters import CounterRecord
from feature_store.event_types import Events
from feature_store.inspect import RawLook
from feature_store.inspect_text import duration, text_of, visible
from feature_store.keys import KeySpace
from feature_store.records import MAX_FEATURE_BYTES, encode_features, encode_history, feature_record, history_record
from tests.feature_store.shop_tables import shop_views
from tests.fixtures.valkey import valkey, valkey_server, valkey_url

__all__ = ["valkey", "valkey_server", "valkey_url"]

KEYS = KeySpace()
EVENTS = Events.model_validate({"types": [{"name": "click", "sets": {"clicked": 1}}]})
NOW = 1_767_225_600.0
VIEWS_YAML = """
name: shop
tables: {interactions: i.csv, users: u.csv, items: i.csv}
interactions: {time: at}
user:
  key: user_id
  ttl_s: 3600
  fields:
    - {name: age, kind: number}
    - {name: town, kind: category, ttl_s: 60}
    - {name: tags, kind: categories}
    - {name: plan, kind: category}
item:
  key: item_id
  fields: [{name: item_id, kind: category}, {name: price, kind: number}]
labels: [{name: ctr, column: clicked}]
history: {length: 5}
events: {types: [{name: click, sets: {clicked: 1}}]}
"""
USER = {"age": "31", "town": "Köln", "tags": ["x", "y"], "shoe_size": 43}


@pytest.fixture
def views_path(tmp_path):
    path = tmp_path / "views.yaml"
    path.write_text(VIEWS_YAML)
    return str(path)


def write_user(client, user="u1", age=120.0, **values):
    written = time.time() - age
    client.set(KEYS.user(user), encode_features(feature_record(user, 5.0, {**USER, **values}, written_at=written)))
    times = [NOW, NOW + 1, NOW + 2]
    client.set(KEYS.history(user), encode_history(history_record(user, ["a", "b", "a"], times, version=9, written_at=written)))
    counters = msgspec.msgpack.encode(CounterRecord(1, user, [60.0], {"click": [7, NOW, 2.5]}))
    client.set(KEYS.user_counters(user), counters)


def inspect(capsys, *arguments):
    code = main(["inspect", *arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_every_field_is_told_with_its_status_and_everything_with_its_size_and_age(valkey, valkey_url, views_path, capsys):
    write_user(valkey)
    valkey.set(KEYS.item("i9"), encode_features(feature_record("i9", 5.0, {"price": 2.5})))
    valkey.set(KEYS.item_counters("i9"), msgspec.msgpack.encode(CounterRecord(1, "i9", [60.0], {"click": [3, NOW, 1.0]})))
    code, out, _ = inspect(capsys, "u1", "--views", views_path, "--redis", valkey_url, "--json", "--item", "i9", "i0")
    seen = json.loads(out)
    assert code == 0
    fields = {field["name"]: (field["status"], field["value"], field["ttl_s"]) for field in seen["features"]["fields"]}
    assert fields == {
        "age": ("refused", "31", 3600),
        "town": ("stale", "Köln", 60),
        "tags": ("present", ["x", "y"], 3600),
        "plan": ("missing", None, 3600),
        "shoe_size": ("undeclared", 43, 3600),
    }
    for part in ("features", "history"):
        stored = seen[part]["stored"]
        assert stored["found"]
        assert stored["fault"] is None
        assert 120 <= stored["age_s"] < 180
    assert seen["features"]["stored"]["bytes"] == valkey.strlen(KEYS.user("u1"))
    assert seen["features"]["stored"]["memory_bytes"] == valkey.memory_usage(KEYS.user("u1"))
    history = seen["history"]
    assert (history["version"], history["cap"]) == (9, 5)
    assert [(event["item"], event["date"]) for event in history["events"]] == [
        ("a", "2026-01-01 00:00:02+00:00"),
        ("b", "2026-01-01 00:00:01+00:00"),
        ("a", "2026-01-01 00:00:00+00:00"),
    ]
    click = seen["counters"]["types"]["click"]
    assert (click["count"], click["newest"], click["date"]) == (7, NOW, "2026-01-01 00:00:00+00:00")
    assert [rate["half_life_s"] for rate in click["rates"]] == [60.0]
    assert [each["types"]["click"]["count"] for each in seen["item_counters"] if each["types"]] == [3]
    assert [(item["owner"], item["stored"]["found"]) for item in seen["items"]] == [("i9", True), ("i0", False)]
    assert [field["status"] for field in seen["items"][0]["fields"]] == ["missing", "present"]


def test_the_text_says_the_same_for_people(valkey, valkey_url, views_path, capsys):
    write_user(valkey)
    valkey.pexpire(KEYS.user("u1"), 7_200_000)
    code, out, err = inspect(capsys, "u1", "--views", views_path, "--redis", valkey_url)
    assert (code, err) == (0, "")
    for line in (
        '  town                             stale      "Köln"  (older than its TTL; ttl 1 min)',
        "  shoe_size                        undeclared 43  (the views have no such field; ttl 1 h)",
        "     1  2026-01-01 00:00:02+00:00  a",
        "  click                            7, the newest 2026-01-01 00:00:00+00:00",
    ):
        assert line in out.splitlines()
    assert "version 9, 3 of at most 5 events, newest first" in out
    assert "the key expires in 2 h" in out
    assert "(2 min ago)" in out


def test_without_views_all_that_is_stored_is_shown_as_it_is(valkey, valkey_url, capsys):
    write_user(valkey)
    code, out, _ = inspect(capsys, "u1", "--redis", valkey_url, "--json")
    seen = json.loads(out)
    assert code == 0
    assert {field["name"]: (field["status"], field["value"]) for field in seen["features"]["fields"]} == {
        name: ("present", value) for name, value in USER.items()
    }
    assert seen["history"]["events"][0]["date"] is None


def test_a_user_of_whom_there_is_nothing_is_not_found(valkey, valkey_url, capsys):
    write_user(valkey)
    code, out, err = inspect(capsys, "u2\x1b[31m", "--redis", valkey_url)
    assert code == 1
    assert "features: none under" in out
    assert err == "the store has nothing of user u2\\x1b[31m\n"


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (["--redis", "redis://127.0.0.1:1"], "unavailable: refused"),
        (["--redis", "ftp://x"], "URL must be"),
        (["--prefix", "{"], "prefix"),
        (["--views", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_store_that_cannot_be_read_is_told(where, reason, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = inspect(capsys, "u1", *where)
    assert (code, out) == (1, "")
    assert reason in err


def test_an_embedded_store_that_is_not_there_is_not_made(tmp_path, capsys):
    code, _, err = inspect(capsys, "u1", "--embedded", str(tmp_path / "store"))
    assert code == 1
    assert "no embedded store" in err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("rights", "knows_sizes"), [(["+@read", "+@connection", "-@write"], True), (["+get", "+mget", "+ping", "+select"], False)]
)
def test_no_right_to_write_is_needed_and_the_readers_own_rights_are_enough(valkey, valkey_url, rights, knows_sizes, capsys):
    write_user(valkey)
    valkey.acl_setuser("looker", enabled=True, reset=True, passwords=["+pass"], keys=["*"], commands=None)
    valkey.execute_command("ACL", "SETUSER", "looker", *rights)
    url = valkey_url.replace("unix://", "unix://looker:pass@")
    try:
        code, out, err = inspect(capsys, "u1", "--redis", url, "--json")
    finally:
        valkey.acl_deluser("looker")
    assert (code, err) == (0, "")
    seen = json.loads(out)
    assert len(seen["features"]["fields"]) == len(USER)
    assert (seen["features"]["stored"]["bytes"] is not None) is knows_sizes


def test_faults_are_named(valkey, valkey_url, capsys):
    valkey.rpush(KEYS.user("u1"), b"x")
    valkey.set(KEYS.history("u1"), encode_history(history_record("u2", [], [])))
    valkey.set(KEYS.user_counters("u1"), b"\xc1")
    valkey.set(KEYS.item("i"), bytes(MAX_FEATURE_BYTES + 1_000_000))
    code, out, _ = inspect(capsys, "u1", "--redis", valkey_url, "--json", "--item", "i")
    seen = json.loads(out)
    stored = [seen[part]["stored"] for part in ("features", "history", "counters")] + [seen["items"][0]["stored"]]
    assert code == 0
    assert [each["fault"] for each in stored] == ["wrong_type", "owner_mismatch", "corrupt", "oversized"]
    assert stored[3]["bytes"] == MAX_FEATURE_BYTES + 1_000_000
    _, text, _ = inspect(capsys, "u1", "--redis", valkey_url)
    assert "NOT USED, wrong_type: a Redis list" in text


HOSTILE = "\x1b]0;pwned\x07\u202eevil\r\n\x00\x9b31m\u200b\ud800"


def test_nothing_stored_reaches_the_terminal_unescaped():
    item, other = HOSTILE.replace("\ud800", ""), "\x7f" * 500
    values = {item: item, "text": other, "list": [item, 7]}
    looks = [
        RawLook(b"k", "string", encode_features(feature_record(item, 5.0, values)), 10),
        RawLook(b"k", "string", encode_history(history_record(item, [item], [1.0])), 10),
        RawLook(b"k\xed\xa0\x80", "other\x1b"),
    ]
    text = text_of(user_seen(item, [], looks, None, now=NOW))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "pwned" in text
    assert visible(HOSTILE) == "\\x1b]0;pwned\\x07\\u202eevil\\r\\n\\x00\\x9b31m\\u200b\\ud800"
    assert visible("a\\x1b") != visible("a\x1b")
    assert len(visible("x" * 10_000)) < 200


def test_a_terminal_without_unicode_shows_escapes(valkey, valkey_url, capsys, monkeypatch):
    write_user(valkey)
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["inspect", "u1", "--redis", valkey_url]) == 0
    assert b"K\\xf6ln" in out.buffer.getvalue()


@pytest.mark.parametrize("with_views", [True, False])
def test_no_stored_garbage_makes_it_fail(with_views):
    draw = random.Random(7)
    sound = [
        encode_features(feature_record("u1", 5.0, {"age": 31, "town": "Bonn", "x": ["a", 1]}, written_at=7.0)),
        encode_history(history_record("u1", ["a", "b"], [1e18, 1e300], written_at=-1e308)),
        msgspec.msgpack.encode(CounterRecord(1, "u1", [60.0], {"click": [7, 1e300, 2.5]})),
        msgspec.msgpack.encode([1, "u1", 5.0, 7.0, {"age": 31, "town": "Bonn"}]),
    ]
    views = shop_views() if with_views else None
    for _ in range(500):
        looks = [RawLook(b"k", "string", spoilt(value, draw), 9) for value in (*sound, sound[2])]
        seen = user_seen("u1", ["u1"], looks, views, now=NOW)
        assert seen.found
        assert text_of(seen)
        json.dumps(asdict(seen), allow_nan=False)


def spoilt(value, draw):
    way = draw.randrange(4)
    if way == 0:
        return draw.randbytes(draw.randrange(60))
    if way == 1:
        return value[: draw.randrange(len(value))]
    changed = bytearray(value)
    for _ in range(draw.randint(1, 4)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (0.5, "0.5 s"), (59, "59 s"), (60, "1 min"), (5_400, "1.5 h"), (864_000, "10 d")]
)
def test_durations_are_in_the_largest_unit_that_fits(seconds, text):
    assert duration(seconds) == text


def test_the_key_of_a_real_client_is_the_one_that_is_shown(valkey, valkey_url, capsys):
    write_user(valkey, "a{b}%")
    _, out, _ = inspect(capsys, "a{b}%", "--redis", valkey_url)
    assert "rankline:user:{a%7Bb%7D%25}" in out


def test_counts_go_on_decaying_until_now_and_tell_a_rate():
    record = msgspec.msgpack.encode(CounterRecord(1, "u1", [60.0], {"click": [7, NOW - 120, 2.0]}))
    looks = [RawLook(b"k"), RawLook(b"k"), RawLook(b"k", "string", record, 9)]
    seen = user_seen("u1", [], looks, shop_views().model_copy(update={"events": EVENTS}), now=NOW)
    (rate,) = seen.counters.types["click"].rates
    assert (rate.decayed, rate.per_s) == (pytest.approx(0.5), pytest.approx(0.5 * 0.693147 / 60, rel=1e-5))
    assert "    half-life 1 min                0.5 decayed, 20.79 an hour" in text_of(seen).splitlines()
