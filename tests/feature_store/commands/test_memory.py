"""``memory``: a table of what records cost, as a real server says."""

import pytest

from feature_store.__main__ import main
from tests.feature_store.shop_tables import write_shop

VIEWS = """
name: shop
tables: {interactions: interactions.csv, users: users.csv, items: items.csv}
interactions: {time: at}
user: {key: user_id, fields: [{name: age, kind: number}]}
item: {key: item_id, fields: [{name: item_id, kind: category}, {name: price, kind: number}]}
labels: [{name: ctr, column: clicked}]
"""
EVENTS = "events: {types: [{name: click, sets: {clicked: 1}}, {name: rating, value: stars}]}"


def test_every_kind_of_record_is_measured(tmp_path, capsys):
    views = tmp_path / "views.yaml"
    views.write_text(VIEWS)
    write_shop(tmp_path)
    assert main(["memory", str(views), "--events", "1", "100"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [
        ["user, features", "3"],
        ["item, features", "3"],
        ["user, history of 1 events", "3"],
        ["user, history of 100 events", "3"],
    ]
    for _, _, value, memory, most in rows:
        assert 0 < int(value.replace(",", "")) < int(memory.replace(",", "")) <= int(most.replace(",", ""))


def test_what_live_events_cost_is_measured_where_they_are_declared(tmp_path, capsys):
    views = tmp_path / "views.yaml"
    views.write_text(VIEWS + EVENTS)
    write_shop(tmp_path)
    assert main(["memory", str(views), "--events", "1", "--live", "10", "300"]) == 0
    rows = [line.strip("| ").split("|") for line in capsys.readouterr().out.splitlines()[5:]]
    cost = {row[0].strip(): int(row[3].replace(",", "")) for row in rows}
    assert cost["user, ids of 300 live events"] > 5 * cost["user, ids of 10 live events"] > 0
    assert all(cost[name] > 0 for name in ("user, counters", "item, counters", "event log, per event"))


@pytest.mark.parametrize("text", ["name: shop", None])
def test_views_that_cannot_be_read_are_told(tmp_path, capsys, text):
    views = tmp_path / "views.yaml"
    if text is not None:
        views.write_text(text)
    assert main(["memory", str(views)]) == 1
    assert "views.yaml" in capsys.readouterr().err
