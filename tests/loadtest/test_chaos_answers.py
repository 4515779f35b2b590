"""The oracle of wrong-user, and the clients that ask it: a leak of any kind must turn the run red."""

import asyncio
import contextlib
import json
import time

import pytest
import redis

from loadtest.chaos.faults import FaultCounts, FaultRule, StoreFaults
from loadtest.chaos.own_histories import OwnAnswers, OwnHistories
from loadtest.chaos.rude_clients import Crowd, crowd_of_rude_clients
from loadtest.chaos.store_server import StoreServer
from loadtest.chaos.wire import Reply
from loadtest.chaos.wrong_user import breaches_of
from tests.loadtest.fake_service import answering

USERS = OwnHistories(40)
ANSWERS = OwnAnswers(USERS, ["a", "b"], timeout_ms=100)
NO_HISTORY = {"attention_history": [], "version": None, "length": 0}
DEGRADED = {"level": "default_features", "reason": "timeout"}


def answer(number, *, user=None, degraded=None, **told) -> bytes:
    own = USERS.items(number)
    told = {"attention_history": own, "version": len(own), "length": len(own)} | told
    freshness = {"history_length": told["length"], "history_version": told["version"], "missing": []}
    content = {"user_id": USERS.user(number if user is None else user), "freshness": freshness, "degraded": degraded}
    if told["attention_history"] is not None:
        content["attention_history"] = told["attention_history"]
    return json.dumps(content, separators=(",", ":")).encode()


def verdict(body, status=200):
    return ANSWERS.judge(3, Reply(status, body))


def test_no_two_users_share_an_item_and_neighbours_differ_in_version():
    owners = {}
    for number in range(USERS.count):
        for item in USERS.items(number):
            assert owners.setdefault(item, number) == number
    assert all(USERS.version(number) != USERS.version(number + 1) for number in range(USERS.count - 1))


def test_the_users_own_answer_is_own_whole_or_degraded():
    assert verdict(answer(3)).kind == "own"
    assert verdict(json.dumps(json.loads(answer(3)), indent=1).encode()).kind == "own", "found also where bytes differ"
    assert verdict(answer(3, degraded=DEGRADED)).kind == "degraded"
    assert (
        verdict(answer(3, degraded={"level": "input_order", "reason": "deadline"}, attention_history=None)).kind == "degraded"
    )


def test_an_empty_history_must_be_told():
    assert verdict(answer(3, degraded=DEGRADED, **NO_HISTORY)) == verdict(answer(3, degraded=DEGRADED, **NO_HISTORY))
    assert verdict(answer(3, degraded=DEGRADED, **NO_HISTORY)).reason == "timeout"
    assert verdict(answer(3, **NO_HISTORY)).kind == "wrong"


@pytest.mark.parametrize(
    "body",
    [
        answer(3, attention_history=USERS.items(4)),
        answer(3, attention_history=USERS.items(4), degraded=DEGRADED),
        answer(3, version=USERS.version(4)),
        answer(3, length=USERS.version(4)),
        answer(3, user=4),
        answer(4),
        answer(3, attention_history=USERS.items(3)[:-1]),
        answer(3, degraded=DEGRADED, attention_history=[], version=USERS.version(4), length=0),
        answer(3, degraded={"level": "input_order", "reason": "deadline"}, attention_history=None, version=USERS.version(4)),
        b"{}",
        b"[]",
        b"no json",
    ],
)
def test_anything_else_is_wrong(body):
    assert verdict(body).kind == "wrong"


@pytest.mark.parametrize(("status", "kind"), [(500, "server_error"), (503, "server_error"), (429, "refused"), (422, "other")])
def test_other_statuses_are_told_apart(status, kind):
    assert verdict(b"{}", status).kind == kind


async def asked(respond, **crowd):
    crowd = Crowd(**{"answers": 400, "connections": 8, "max_s": 30, **crowd})
    async with answering(lambda _, body: respond(int(json.loads(body)["user_id"].removeprefix("chaos-")))) as port:
        tally = await crowd_of_rude_clients(port, ANSWERS, crowd, seed=5)
    return tally, breaches_of(tally, crowd, FaultCounts())


async def test_a_sound_service_is_green_though_clients_leave():
    tally, breaches = await asked(lambda number: (200, answer(number)))
    assert breaches == []
    assert tally.checked >= 400
    assert tally.verdicts["own"] == tally.checked
    assert set(tally.disconnected) == {"before sending", "half sent", "waiting", "mid-answer"}


async def test_one_leaked_answer_among_hundreds_is_red():
    numbers = iter(range(10_000))
    tally, breaches = await asked(
        lambda number: (
            (200, answer(number, attention_history=USERS.items((number + 1) % 40)))
            if next(numbers) == 100
            else (200, answer(number))
        ),
        disconnect_share=0.0,
    )
    assert tally.verdicts["wrong"] == 1
    assert len(breaches) == 1
    assert "1 of" in breaches[0]


@pytest.mark.parametrize(
    ("respond", "said"),
    [
        (lambda number: (500, b"{}") if number == 7 else (200, answer(number)), "5xx"),
        (lambda number: (404, b"{}") if number == 7 else (200, answer(number)), "status"),
        (lambda number: None if number == 7 else (200, answer(number)), "ended or left without an answer"),
        (lambda number: (200, answer(number, degraded=DEGRADED, **NO_HISTORY)), "had a history to check"),
    ],
)
async def test_a_failing_or_a_blind_run_is_red(respond, said):
    _, breaches = await asked(respond, answers=150)
    assert any(said in breach for breach in breaches)


async def test_too_few_answers_in_the_time_given_are_red():
    async def slowly():
        return await asked(lambda number: (200, answer(number)), answers=1_000_000, max_s=0.2)

    _, breaches = await asyncio.wait_for(slowly(), 30)
    assert any("only" in breach for breach in breaches)


async def test_many_answers_of_a_store_left_in_peace_prove_nothing():
    _, breaches = await asked(lambda number: (200, answer(number)), answers=1_000)
    assert breaches == ["the store was not meddled with"]


def test_faults_kill_and_hold_up_real_connections(tmp_path):
    with StoreServer(tmp_path / "store") as store, store.client() as client:
        with StoreFaults(store, FaultRule(every_s=0.01, pause_ms=(1, 2)), seed=3) as faults:
            give_up = time.monotonic() + 30
            while not (faults.counts.connections_killed > 5 and faults.counts.pauses > 5) and time.monotonic() < give_up:
                with contextlib.suppress(redis.RedisError):
                    client.ping()
        assert faults.counts.connections_killed > 5
        assert faults.counts.pauses > 5
        assert faults.counts.refused == 0
