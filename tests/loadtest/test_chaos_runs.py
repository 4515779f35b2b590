"""Freezes judged, the store that is killed and frozen, results written down, options."""

import json

import pytest
import redis

from loadtest.__main__ import main
from loadtest.chaos import command_line
from loadtest.chaos.event_audit import FoundHistory
from loadtest.chaos.frozen_store import Freezes, judged
from loadtest.chaos.made_events import one_users_batches
from loadtest.chaos.one_user import Measured
from loadtest.chaos.one_user import judged as judged_one_user
from loadtest.chaos.open_loop import Arrival, percentile
from loadtest.chaos.outcome import Outcome, Run, at_most
from loadtest.chaos.store_server import StoreServer

RUN = Run("unused", 1, "python -m loadtest chaos frozen-store")
FREEZES = Freezes(times=1, freeze_s=2.0)


def arrivals(*, late_ms=60.0, recovered_s=0.5, status=200, frozen=True):
    """50 a second for ten seconds, frozen from the third to the fifth."""
    made = []
    for number in range(500):
        due = number / 50
        during = 3.0 <= due < 5.0
        whole = not (frozen and 3.0 <= due <= 5.0 + recovered_s)
        made.append(Arrival(due, late_ms if during else 5.0, status if during else 200, whole))
    return made


def verdict(**case):
    return judged(RUN, arrivals(**case), [(3.0, 5.0)], FREEZES)


def test_a_freeze_that_is_borne_is_green():
    outcome = verdict()
    assert outcome.breaches == []
    (freeze,) = outcome.figures["freezes"]
    assert freeze["answers"] == freeze["degraded"] == 100
    assert freeze["p99_ms"] == 60.0
    assert freeze["recovered_after_s"] == 0.5


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"late_ms": 111.0}, "p99"),
        ({"recovered_s": 2.5}, "still degraded"),
        ({"status": 500}, "5xx"),
        ({"status": 0}, "no answer"),
        ({"frozen": False}, "not frozen"),
    ],
)
def test_a_freeze_that_is_not_borne_is_red(case, said):
    assert any(said in breach for breach in verdict(**case).breaches)


def test_a_run_without_its_freezes_or_answers_is_red():
    assert judged(RUN, arrivals(), [], FREEZES).breaches == ["not every freeze was run"]
    assert any("p99" in breach for breach in judged(RUN, [], [(3.0, 5.0)], FREEZES).breaches)


def one_users_run(**case):
    (events,) = one_users_batches(50, 50, seed=1)
    history = FoundHistory(50, [event.item_id for event in events[-5:]], [event.time for event in events[-5:]])
    sound = {"us_per_event": [40.0, 50.0], "bytes_by_key": [{"history": 90}, {"history": 100}], "history": history}
    return judged_one_user(RUN, events, Measured(**{**sound, **case}), 5, max_user_bytes=100)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"history": None}, "not the newest"),
        ({"history": FoundHistory(50, [], [])}, "not the newest"),
        ({"history": FoundHistory(49, [], [])}, "version is 49"),
        ({"bytes_by_key": [{"history": 90, "seen": 11}, {"history": 90}]}, "101 bytes"),
        ({"us_per_event": [40.0, 81.0]}, "times as long"),
        ({"problems": ["answered 500"]}, "answered 500"),
    ],
)
def test_one_user_who_grows_slows_down_or_loses_events_is_red(case, said):
    assert one_users_run().breaches == []
    assert any(said in breach for breach in one_users_run(**case).breaches)


def test_percentiles_are_values_that_occurred():
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0


def test_a_killed_store_loses_what_it_did_not_save_and_an_append_only_one_does_not(tmp_path):
    for persistence, kept in (("snapshot", None), ("log", b"1")):
        with StoreServer(tmp_path / persistence, persistence) as store:
            with store.client() as client:
                client.set("a", 1)
            store.kill()
            store.start()
            with store.client() as client:
                assert client.get("a") == kept


def test_a_frozen_store_answers_nobody_until_it_goes_on(tmp_path):
    with StoreServer(tmp_path / "s") as store, redis.Redis.from_url(store.url, socket_timeout=0.2) as client:
        assert client.ping()
        store.freeze()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        store.thaw()
        assert client.ping()


def test_results_are_written_as_json_and_as_a_page(tmp_path):
    good = Outcome("wrong-user", "c", 7, "claim", {"answers_checked": 20_000, "by": {"timeout": 3}})
    bad = Outcome("lost-events", "c", 8, "claim", {"lost": 2}, ["lost: 2, such as e1"], ["a note"])
    assert (good.exit_code, bad.exit_code) == (0, 1)
    path = good.write(tmp_path)
    bad.write(tmp_path)
    assert json.loads(path.read_text())["seed"] == 7
    page = (tmp_path / "README.md").read_text()
    assert "wrong-user: holds" in page
    assert "20,000" in page
    assert "lost-events: RED" in page
    assert "lost: 2, such as e1" in page
    assert "BREACH" in bad.summary()


def test_a_zero_states_its_bound():
    assert at_most(20_000) == pytest.approx(1.5e-4)
    assert at_most(0) is None


def test_without_a_workspace_the_run_is_refused(tmp_path, capsys):
    assert main(["chaos", "wrong-user", "--workspace", str(tmp_path), "--seed", "3"]) == 2
    assert "make demo" in capsys.readouterr().err


def test_the_seed_is_printed_and_a_red_run_ends_with_1(tmp_path, capsys, monkeypatch):
    seen = []

    def scenario(run, users, crowd):
        seen.append((run, users, crowd))
        return Outcome("wrong-user", run.command, run.seed, "claim", {}, ["wrong"])

    monkeypatch.setattr(command_line, "wrong_user", scenario)
    assert main(["chaos", "wrong-user", "--answers", "50", "--out", str(tmp_path)]) == 1
    run, _, crowd = seen[0]
    assert f"seed {run.seed}" in capsys.readouterr().out
    assert crowd.answers == 50
    assert crowd.disconnect_share == 0.3


@pytest.mark.parametrize("answers", ["0", "-1", "99999999999", "many"])
def test_sizes_are_bounded(answers, capsys):
    with pytest.raises(SystemExit):
        main(["chaos", "wrong-user", "--answers", answers])
    assert "--answers" in capsys.readouterr().err
