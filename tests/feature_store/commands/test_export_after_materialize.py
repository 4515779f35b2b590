"""The whole way through the command line, with a real server: materialize, live events, the next day's tables, export."""

import asyncio

import pytest

from feature_store.__main__ import main
from feature_store.events.event import new_event
from feature_store.events.ports import SpoolMark
from feature_store.keys import KeySpace
from feature_store.redis.events import RedisEvents
from feature_store.redis.script_runs import open_scripts
from feature_store.tables import SERVED, read_tables
from feature_store.views import load_views
from tests.feature_store.events.logged import event_shop, write_event_shop
from tests.feature_store.shop_tables import INTERACTIONS, write_shop

KEYS = KeySpace("shop")
NEXT_DAY = INTERACTIONS + "01,b,11,1,,\n01,c,13,1,,\n"


def event(number, kind, item, time, **more):
    return new_event(event_id=f"e{number}", user_id="01", item_id=item, type=kind, time=time, received_at=time, **more)


EVENTS = [
    event(1, "impression", "b", 10.0, history_version=1, request_id="r1"),
    event(2, "click", "b", 11.0, request_id="r1"),
    event(3, "impression", "c", 12.0, history_version=2, request_id="r2"),
    event(4, "click", "c", 13.0, request_id="r2"),
    event(5, "impression", "a", 14.0, history_version=4),  # the store is at version 3
]
LATER = [event(6, "impression", "d", 15.0, history_version=3)]


@pytest.fixture
async def store(valkey_url):
    opened = RedisEvents(open_scripts(valkey_url, 5.0), KEYS, event_shop())
    yield opened
    await opened.close()


def command(*arguments):
    return main([*map(str, arguments), "--prefix", "shop"])


async def in_thread(*arguments):
    return await asyncio.to_thread(command, *arguments)


def served(out):
    return read_tables(load_views(out / "views.yaml"), out).interactions[SERVED].to_list()


async def test_the_next_days_tables_change_no_served_history(store, valkey_url, tmp_path, capsys):
    path = write_event_shop(tmp_path)
    assert await in_thread("materialize", path, "--redis", valkey_url) == 0
    await store.apply(EVENTS, SpoolMark("s", None, 5))
    write_shop(tmp_path, interactions=NEXT_DAY)
    assert await in_thread("materialize", path, "--redis", valkey_url) == 0
    await store.apply(LATER, SpoolMark("s", 5, 6))
    capsys.readouterr()
    assert await in_thread("export-events", path, "--out", tmp_path / "out", "--redis", valkey_url) == 0
    assert served(tmp_path / "out")[-6:] == [["a"], None, ["a", "b"], None, None, ["a", "b", "c"]]
    told = capsys.readouterr().out
    assert "warning: 1 rows: history computed by time, because its history_version is higher" in told
    assert "6 live events, 4 of them examples, 3 of these with the history they were served with" in told


async def test_events_that_only_the_tables_have_are_told(store, valkey_url, tmp_path, capsys):
    path = write_event_shop(tmp_path)
    assert await in_thread("materialize", path, "--redis", valkey_url) == 0
    await store.apply(EVENTS, SpoolMark("s", None, 5))
    write_shop(tmp_path, interactions=NEXT_DAY + "01,x,12,1,,\n")
    assert await in_thread("export-events", path, "--out", tmp_path / "out", "--redis", valkey_url) == 0
    assert served(tmp_path / "out") == [None] * 12
    assert "warning: 2 rows: history computed by time, because the tables hold events newer than" in capsys.readouterr().out
