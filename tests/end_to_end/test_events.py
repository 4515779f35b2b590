"""A click changes the very next ranking, and outlives what happens to the service and to the store."""

import http.client
import os
import re
import signal
import time
from pathlib import Path

import pytest
import redis

from demo.steps import run_command
from feature_store.embedded import EmbeddedStore
from feature_store.keys import KeySpace
from feature_store.records import decode_history
from tests.end_to_end.line import ADMIN, call, rank, send_signal, serving, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DIN = {"overrides": {"din-vs-deepfm": "din"}, "explain": "attention"}


def click(user, item, event_id, **more):
    return {"event_id": event_id, "user_id": user, "item_id": item, "type": "click", **more}


def post(server, *events):
    status, answer, _ = call(server, "POST", "/events", {"events": list(events)})
    assert status in (200, 202), answer
    return status, answer


def history_of(server, user, items):
    answer = rank(server, {"user_id": user, "candidates": items[:3], **DIN}, ADMIN)
    assert answer["degraded"] is None
    return answer["attention_history"], answer["freshness"]["history_version"]


def test_a_click_is_in_the_very_next_ranking(server, line):
    user, item = line.users[1], line.items[7]
    before, version = history_of(server, user, line.items)
    scores = {
        each["id"]: each["score"] for each in rank(server, {"user_id": user, "candidates": line.items, **DIN}, ADMIN)["items"]
    }
    status, answer = post(server, click(user, item, "next-1"))
    assert (status, answer["users"]) == (200, [{"user_id": user, "history_version": version + 1}])
    after, seen = history_of(server, user, line.items)
    assert (after[-1], seen) == (item, version + 1)
    assert after[:-1] == before[-len(after) + 1 :]
    now = {
        each["id"]: each["score"] for each in rank(server, {"user_id": user, "candidates": line.items, **DIN}, ADMIN)["items"]
    }
    assert now != scores


def test_the_same_event_again_changes_nothing(server, line):
    user = line.users[2]
    post(server, click(user, line.items[3], "again"))
    before = history_of(server, user, line.items)
    status, answer = post(server, click(user, line.items[3], "again"), click(user, line.items[4], "again"))
    assert (status, answer["accepted"], answer["duplicates"]) == (200, 2, 2)
    assert history_of(server, user, line.items) == before


def test_a_late_click_stands_where_it_belongs(server, line):
    user, now = line.users[3], time.time()
    post(server, click(user, line.items[1], "late-3", time=now - 10))
    post(server, click(user, line.items[2], "late-1", time=now - 30), click(user, line.items[3], "late-2", time=now - 20))
    assert history_of(server, user, line.items)[0][-3:] == [line.items[2], line.items[3], line.items[1]]


def test_a_version_to_come_is_told_and_one_that_is_there_is_served(server, line):
    user = line.users[4]
    _, answer = post(server, click(user, line.items[5], "version-1"))
    version = answer["users"][0]["history_version"]
    body = {"user_id": user, "candidates": line.items[:3]}
    assert rank(server, {**body, "min_history_version": version})["degraded"] is None
    behind = rank(server, {**body, "min_history_version": version + 1})["degraded"]
    assert (behind["level"], behind["reason"]) == ("stale_history", "history_version_behind")


def test_a_wrong_event_is_refused_alone(server, line):
    user = line.users[5]
    status, answer = post(server, click(user, line.items[1], "good"), {**click(user, line.items[1], "bad"), "type": "wink"})
    assert (status, answer["accepted"], answer["refused_count"]) == (200, 1, 1)
    assert answer["refused"][0]["index"] == 1
    assert answer["refused"][0]["errors"][0]["field"] == "type"


def test_events_of_a_user_that_the_store_does_not_know_make_one(server, line):
    post(server, click("newcomer-1", line.items[2], "n-1"), click("newcomer-1", line.items[4], "n-2", time=time.time() - 5))
    answer = rank(server, {"user_id": "newcomer-1", "candidates": line.items[:3], **DIN}, ADMIN)
    assert answer["attention_history"] == [line.items[4], line.items[2]]
    assert answer["freshness"]["user_known"] is False


def test_events_are_kept_while_the_store_is_away_and_when_the_service_is_killed(line, tmp_path):
    user = line.users[6]
    with EmbeddedStore(tmp_path / "store") as store:
        run_command(["-m", "feature_store", "materialize", str(line.views), "--redis", store.url])
        settings = {"RANKLINE_STORE__URL": store.url}
        with serving(line, tmp_path, settings) as server:
            before, version = history_of(server, user, line.items)
            store.stop()
            status, answer = post(server, click(user, line.items[8], "kept-1"))
            assert (status, answer["applied"], answer["users"][0]["history_version"]) == (202, False, None)
            send_signal(server, signal.SIGKILL)
            server.process.wait(30)
        store.start()
        with serving(line, tmp_path, settings) as server:
            wait_until(lambda: history_of(server, user, line.items) == ([*before, line.items[8]][-40:], version + 1))
            text = call(server, "GET", "/metrics")[1].decode()
            assert "rankline_events_applied_total 1.0" in text


def test_a_store_that_lost_its_last_writes_gets_them_again(line, tmp_path):
    """The embedded store saves every half minute: killed before, it comes back without the click."""
    user = line.users[7]
    with EmbeddedStore(tmp_path / "store") as store:
        run_command(["-m", "feature_store", "materialize", str(line.views), "--redis", store.url])
        store.stop()  # saves
        store.start()
        with serving(line, tmp_path, {"RANKLINE_STORE__URL": store.url}) as server:
            before, version = history_of(server, user, line.items)
            assert post(server, click(user, line.items[9], "lost-1"))[0] == 200
            os.kill(store.pid, signal.SIGKILL)
            wait_until(store.has_gone)
            store.start()
            wait_until(lambda: rank(server, {"user_id": user, "candidates": line.items[:3]})["degraded"] is None)
            wait_until(lambda: history_of(server, user, line.items) == ([*before, line.items[9]][-40:], version + 1))
            assert "rankline_store_rewinds_total 1.0" in call(server, "GET", "/metrics")[1].decode()


def test_where_the_views_declare_no_events_there_is_no_such_route(line, tmp_path):
    views = tmp_path / "views.yaml"
    views.write_text(line.views.read_text().partition("events:")[0])
    with serving(line, tmp_path, {"RANKLINE_VIEWS": str(views)}) as server:
        status, problem, _ = call(server, "POST", "/events", click("u", "i", "e"))
        assert (status, problem["type"]) == (404, "urn:rankline:problem:events-not-declared")


def workers_of(server):
    """Pids of the worker processes that listen: the children of the supervisor, but for multiprocessing's own helpers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def try_post(server, *events):
    """Whether the events were acknowledged; a worker that is killed meanwhile breaks the connection."""
    try:
        return call(server, "POST", "/events", {"events": list(events)})[0] in (200, 202)
    except (OSError, http.client.HTTPException):
        return False


def metric(server, name):
    text = call(server, "GET", "/metrics")[1].decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def test_a_killed_worker_loses_no_acknowledged_event_and_doubles_none(line, tmp_path):
    """The store is away for the first kill, so that what was sent to that worker is in its spool only."""
    user, acknowledged, number = "of-two-workers", [], 0

    def send(rounds):
        nonlocal number
        for _ in range(rounds):
            number += 1
            event = click(user, f"item-{number}", f"w-{number}", time=time.time() - 3600 + number)
            if try_post(server, event) or try_post(server, event):
                acknowledged.append(f"item-{number}")

    with EmbeddedStore(tmp_path / "store") as store:
        run_command(["-m", "feature_store", "materialize", str(line.views), "--redis", store.url])
        with serving(line, tmp_path, {"RANKLINE_STORE__URL": store.url}, workers=2) as server:
            wait_until(lambda: len(workers_of(server)) == 2)
            store.stop()
            send(10)
            spools = [path for path in (tmp_path / "spool").iterdir() if list(path.glob("*.seg"))]
            assert spools, "nothing was kept"
            for pid in workers_of(server):  # one after the other, each replaced: whoever holds what, was killed
                os.kill(pid, signal.SIGKILL)
                send(3)
                wait_until(lambda: pid not in workers_of(server) and len(workers_of(server)) == 2)  # noqa: B023
            store.start()
            os.kill(workers_of(server)[0], signal.SIGKILL)
            send(10)
            wait_until(lambda: len(workers_of(server)) == 2)
            wait_until(lambda: try_post(server, click(user, "item-0", "w-0", time=time.time() - 7200)))
            acknowledged.append("item-0")

            def stored():
                with redis.Redis.from_url(store.url) as client:
                    found = client.get(KeySpace("rankline").history(user))
                return [] if found is None else decode_history(found, user).items

            wait_until(lambda: set(acknowledged) <= set(stored()))
            wait_until(lambda: metric(server, "rankline_spool_pending_records") == 0)
            assert len(stored()) == len(set(stored()))
            assert len(acknowledged) > 15
            before = metric(server, "rankline_events_applied_total")
            sent = sum(try_post(server, click("of-both", f"i-{n}", f"b-{n}")) for n in range(20))
            assert sent == 20
            # More is no fault: what a killed worker had applied without telling is applied again, and counted, but not doubled.
            wait_until(lambda: metric(server, "rankline_events_applied_total") >= before + sent)
