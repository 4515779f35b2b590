"""``python -m feature_store export-events`` against a real server."""

import argparse

import pytest

from feature_store.commands import export_events
from feature_store.keys import KeySpace
from models.validate import validate_data
from tests.feature_store.events.logged import fields_of, logged, write_event_shop

KEYS = KeySpace("shop")
LOG = [
    logged(1, "impression", item="b", request_id="r", history_version=1, context={"hour": 8}),
    logged(2, "click", item="b", time=11, version=2, entered=True, request_id="r"),
    logged(3, "review", item="c", time=12, version=2, value=1.0),
]


def run(*arguments):
    parser = argparse.ArgumentParser()
    export_events.add_arguments(parser)
    return export_events.run(parser.parse_args([*map(str, arguments), "--prefix", "shop"]))


def write_log(valkey, events):
    valkey.set(KEYS.event_count, events[-1].number)
    return [valkey.xadd(KEYS.event_log, fields_of(each)).decode() for each in events]


def test_an_export_can_be_trained_from_and_says_where_to_go_on(valkey, valkey_url, tmp_path, capsys):
    path, ids = write_event_shop(tmp_path), write_log(valkey, LOG)
    assert run(path, "--out", tmp_path / "out", "--redis", valkey_url) == 0
    told = capsys.readouterr().out
    assert "3 live events, 2 of them examples, 1 of these with the history they were served with" in told
    assert f"--since {ids[-1]}" in told
    summary = validate_data(tmp_path / "out" / "views.yaml")
    assert (summary.interactions, summary.history.events) == (7, 3)
    assert run(tmp_path / "out" / "views.yaml", "--out", tmp_path / "next", "--redis", valkey_url, "--since", ids[-1]) == 0
    told = capsys.readouterr().out
    assert "0 live events" in told
    assert f"--since {ids[-1]}" in told


def test_a_gap_stops_it_unless_allowed(valkey, valkey_url, tmp_path, capsys):
    path = write_event_shop(tmp_path)
    write_log(valkey, [LOG[0], LOG[2]])
    assert run(path, "--out", tmp_path / "out", "--redis", valkey_url) == 1
    assert "event 2 is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(path, "--out", tmp_path / "out", "--redis", valkey_url, "--allow-gap") == 0
    assert "warning: event 2 is missing" in capsys.readouterr().out


@pytest.mark.parametrize("since", ["", "x", "1", "1-", "(1-1", "-"])
def test_a_place_that_is_none_is_refused(since, tmp_path):
    with pytest.raises(SystemExit):
        run("views.yaml", "--out", tmp_path / "out", "--since", since)


def test_what_is_wrong_is_one_message(tmp_path, capsys):
    assert run(tmp_path / "no.yaml", "--out", tmp_path / "out", "--redis", "redis://127.0.0.1:1") == 1
    assert "feature store unavailable" in capsys.readouterr().err
    assert run(tmp_path / "no.yaml", "--out", tmp_path / "out", "--redis", "nothing://") == 1


def test_a_store_without_a_log_is_told_and_nothing_is_written_unless_allowed(valkey, valkey_url, tmp_path, capsys):
    path = write_event_shop(tmp_path)
    assert run(path, "--out", tmp_path / "out", "--redis", valkey_url) == 1
    assert "no event log under the prefix shop" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(path, "--out", tmp_path / "out", "--redis", valkey_url, "--allow-empty") == 0
    assert "0 live events" in capsys.readouterr().out
    assert (tmp_path / "out" / "views.yaml").is_file()


def test_no_embedded_store_is_made_where_there_is_none(tmp_path, capsys):
    path = write_event_shop(tmp_path)
    assert run(path, "--out", tmp_path / "out", "--embedded", tmp_path / "none") == 1
    assert f"no embedded store in {tmp_path / 'none'}" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_without_flags_it_reads_the_store_of_the_service(valkey, valkey_url, tmp_path, capsys, monkeypatch):
    path = write_event_shop(tmp_path)
    write_log(valkey, LOG)
    monkeypatch.setenv("RANKLINE_STORE__URL", valkey_url)
    assert run(path, "--out", tmp_path / "out") == 0
    assert "3 live events" in capsys.readouterr().out
