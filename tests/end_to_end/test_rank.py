"""``POST /rank`` as a client sees it."""

import itertools
import json

import pytest

from service.api.schemas import RankResponse
from tests.end_to_end.line import ADMIN, call, rank

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_an_answer_holds_every_candidate_once_best_first_with_all_the_contract_promises(server, line):
    answer = rank(server, {"user_id": line.users[0], "candidates": line.items[:20], "request_id": "abc-1"})
    RankResponse.model_validate(answer)
    scores = [item["score"] for item in answer["items"]]
    assert sorted(item["id"] for item in answer["items"]) == sorted(line.items[:20])
    assert scores == sorted(scores, reverse=True)
    assert all(0 < item["score"] < 1 and item["ctr"] == item["score"] for item in answer["items"])
    assert answer["request_id"] == "abc-1"
    assert answer["user_id"] == line.users[0]
    assert answer["degraded"] is None
    assert answer["freshness"]["user_known"] is True
    assert answer["freshness"]["unknown_candidates"] == 0
    assert set(answer["timings_ms"]) == {"parse", "assign", "fetch", "encode", "queue", "score", "respond", "total"}


def test_ids_come_back_in_the_type_they_came_in_and_equal_scores_in_input_order(server):
    candidates = [900001, "900002", 900003, "x", 900001]
    answer = rank(server, {"user_id": 123456789, "candidates": candidates})
    assert answer["user_id"] == 123456789
    assert [item["id"] for item in answer["items"]] == candidates
    assert len({item["score"] for item in answer["items"]}) == 1
    assert answer["freshness"]["user_known"] is False
    assert answer["freshness"]["unknown_candidates"] == len(candidates)


def test_both_arms_serve_and_a_user_keeps_its_arm(server, line):
    first = {user: rank(server, {"user_id": user, "candidates": line.items[:2]}) for user in line.users[:30]}
    again = {user: rank(server, {"user_id": user, "candidates": line.items[:3]}) for user in line.users[:30]}
    arms = {user: answer["experiments"][0]["arm"] for user, answer in first.items()}
    assert set(arms.values()) == {"din", "deepfm"}
    assert arms == {user: answer["experiments"][0]["arm"] for user, answer in again.items()}
    assert all(answer["model"]["name"] == arms[user] for user, answer in first.items())


def test_top_k_cuts_the_list_and_nothing_else(server, line):
    body = {"user_id": line.users[0], "candidates": line.items[:20]}
    assert rank(server, {**body, "top_k": 3})["items"] == rank(server, body)["items"][:3]


def with_history(server, line, arm):
    for user in line.users:
        answer = rank(server, {"user_id": user, "candidates": line.items[:3], "explain": "attention"})
        if answer["experiments"][0]["arm"] == arm and answer["freshness"]["history_length"] > 1:
            return user, answer
    raise AssertionError("no such user")


def test_attention_gives_each_candidate_one_weight_per_event_of_the_history(server, line):
    _, answer = with_history(server, line, "din")
    length = answer["freshness"]["history_length"]
    assert len(answer["attention_history"]) == length
    for item in answer["items"]:
        assert len(item["attention"]) == length
        assert sum(item["attention"]) == pytest.approx(1, abs=1e-4)


def test_a_sent_history_wins_over_the_stored_one(server, line):
    user, stored = with_history(server, line, "din")
    body = {"user_id": user, "candidates": line.items[:3]}
    empty = rank(server, {**body, "history": []})
    assert empty["freshness"]["history_length"] == 0
    assert {item["id"]: item["score"] for item in empty["items"]} != {item["id"]: item["score"] for item in stored["items"]}
    same = rank(server, {**body, "history": stored["attention_history"]})
    assert [item["score"] for item in same["items"]] == pytest.approx([item["score"] for item in stored["items"]], abs=1e-6)


def test_sent_item_features_win_over_stored_ones(server, line):
    body = {"user_id": line.users[0], "candidates": line.items[:5]}
    plain = rank(server, body)
    changed = rank(server, {**body, "candidate_features": {"price": [1.0, 5.0, 20.0, 80.0, 500.0]}})
    assert {item["id"]: item["score"] for item in plain["items"]} != {item["id"]: item["score"] for item in changed["items"]}


def test_a_history_older_than_asked_for_is_told(server, line):
    body = {"user_id": line.users[0], "candidates": line.items[:2]}
    version = rank(server, body)["freshness"]["history_version"]
    assert rank(server, {**body, "min_history_version": version})["degraded"] is None
    behind = rank(server, {**body, "min_history_version": version + 1})["degraded"]
    assert behind == {"level": "stale_history", "reason": "history_version_behind", "scored": 2, "total": 2}


def test_a_deadline_that_cannot_be_met_gives_input_order_without_scores(server, line):
    candidates = list(itertools.islice(itertools.cycle(line.items), 5_000))
    answer = rank(server, {"user_id": line.users[0], "candidates": candidates, "timeout_ms": 1})
    assert answer["degraded"] == {"level": "input_order", "reason": "deadline", "scored": 0, "total": 5_000}
    assert [item["id"] for item in answer["items"]] == candidates
    assert all(item["score"] is None for item in answer["items"])


def test_overrides_are_for_admins_and_are_marked(server, line):
    body = {"user_id": line.users[0], "candidates": line.items[:2]}
    for arm in ("din", "deepfm"):
        forced = {**body, "overrides": {"din-vs-deepfm": arm}}
        assert call(server, "POST", "/rank", forced)[0] == 401
        answer = rank(server, forced, ADMIN)
        assert answer["model"]["name"] == arm
        assert answer["experiments"][0]["forced"] is True
    status, problem, _ = call(server, "POST", "/rank", {**body, "overrides": {"no-such": "arm"}}, ADMIN)
    assert (status, problem["errors"][0]["field"]) == (422, "overrides")


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"context": {"no_such_field": 1}}, "context.no_such_field"),
        ({"context": {"hour": 1.5}}, "context"),
        ({"candidate_features": {"price": [1.0]}}, "candidate_features.price"),
        ({"candidate_features": {"price": ["cheap", "dear"]}}, "candidate_features"),
        ({"candidate_features": {"tags": [1, 2]}}, "candidate_features"),
        ({"timeout_ms": 10_000_000}, "timeout_ms"),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_named(server, line, extra, field):
    status, problem, headers = call(server, "POST", "/rank", {"user_id": 1, "candidates": line.items[:2], **extra})
    assert status == 422, problem
    assert headers["content-type"] == "application/problem+json"
    assert problem["errors"][0]["field"] == field


def test_the_document_describes_the_route(server):
    status, document, _ = call(server, "GET", "/openapi.json")
    assert status == 200
    operation = document["paths"]["/rank"]["post"]
    assert "candidates" in json.dumps(operation["requestBody"])
    assert {"200", "400", "413", "415", "422", "429"} <= set(operation["responses"])
