"""``bench``: both reports come out whole, on a server of its own."""

import json

from feature_store.__main__ import main


def quick(tmp_path, *arguments):
    places = ("--out", str(tmp_path / "out"), "--scratch", str(tmp_path / "scratch"), "--workspace", str(tmp_path / "none"))
    return main(["bench", *arguments, "--quick", *places])


def test_both_reports_are_written_and_printed(tmp_path, capsys):
    assert quick(tmp_path) == 0
    printed = capsys.readouterr().out
    for name in ("reads", "writes"):
        assert (tmp_path / "out" / f"{name}.md").read_text().rstrip() in printed
    reads = json.loads((tmp_path / "out" / "reads.json").read_text())
    assert set(reads["unix_socket"]) == {"10", "50"}
    assert set(reads["loopback_tcp"]) == {"50"}
    assert set(reads["by_fields"]) == {"4", "8"}
    loop = "plain loop, redis-py, HGETALL each"
    assert reads["unix_socket"]["50"][loop][f"of {loop}"]["median"] == 1
    assert reads["unix_socket"]["50"]["read and decode"]["rounds"] == 2
    assert reads["round_trips"]["read and decode"] == 1
    assert reads["round_trips"]["fetch to encoded rows, cache empty"] == 1
    assert reads["round_trips"][loop] == 3
    assert reads["commands"][loop] == {"hgetall": 50}
    assert reads["machine"]["versions"].startswith("Python 3")
    writes = json.loads((tmp_path / "out" / "writes.json").read_text())
    assert writes["http"] is None
    assert "Not measured" in printed
    assert all(rate["events"] > 0 for part in ("apply", "spool", "spool_and_apply") for rate in writes[part].values())
    assert list((tmp_path / "scratch").iterdir()) == []


def test_one_part_alone(tmp_path, capsys):
    assert quick(tmp_path, "writes") == 0
    assert not (tmp_path / "out" / "reads.md").exists()
    assert (tmp_path / "out" / "writes.md").exists()


def test_trouble_is_told_in_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("feature_store.commands.bench.free_port", lambda: 99_999)
    assert quick(tmp_path, "writes") == 1
    assert capsys.readouterr().err
