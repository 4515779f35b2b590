"""``POST /rank`` as clients meet it: past the framework's router, with its document, errors and methods as they were."""

import asyncio
import json
from pathlib import Path

import pytest
from starlette.requests import Request

from service.api.media import BINARY
from service.errors import FieldProblem, RequestInvalidError
from service.scoring.errors import OverloadedError
from tests.service.api.rank_stand_ins import GOOD, URL, RankHouse

DOCUMENT = Path(__file__).parents[2] / "golden" / "openapi" / "rank.json"
"""What the framework made of the route when it still served it."""


def check_problem(response, status, kind):
    content = response.json()
    assert response.status_code == content["status"] == status, content
    assert response.headers["content-type"] == "application/problem+json"
    assert content["type"] == f"urn:rankline:problem:{kind}"
    assert len(content["request_id"]) == 32
    return content


async def test_an_answer_holds_the_ids_as_they_came_best_first():
    house = RankHouse()
    response = await house.post({**GOOD, "top_k": 2})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    content = response.json()
    assert content["items"] == [
        {"id": 5, "score": 2.5, "click": 2.5, "like": 0.25},
        {"id": "b", "score": 1.5, "click": 1.5, "like": 0.25},
    ]
    assert list(content["timings_ms"]) == ["parse", "score", "respond", "total"]
    assert list(house.stages.seen[0]) == ["parse", "score", "respond"]


async def test_the_document_is_what_it_was():
    response = await RankHouse().call("GET", "/openapi.json")
    assert json.dumps(response.json(), indent=1, ensure_ascii=False) == DOCUMENT.read_text("utf-8").rstrip("\n")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_not_allowed(method):
    response = await RankHouse().call(method, URL)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        check_problem(response, 405, "method-not-allowed")


@pytest.mark.parametrize("path", ["/rank/", "/Rank", "/rankx", "/rank/1", "//rank"])
async def test_other_paths_are_not_found(path):
    check_problem(await RankHouse().call("POST", path, json=GOOD), 404, "not-found")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/plain"},
        {"Content_Type": ""},
        {"Content_Type": "application/jsonx"},
        {"Content_Encoding": "gzip"},
        {"Content_Type": "\xb5"},
    ],
)
async def test_other_media_are_not_supported(headers):
    encoded = {key: value.encode("latin-1") for key, value in headers.items()}
    check_problem(await RankHouse().post(GOOD, **encoded), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "application/json; charset=utf-8"},
        {"Content_Type": "Application/JSON"},
        {"Content_Encoding": "Identity"},
        {"Accept": "text/html"},
        {"Accept": f"{BINARY.decode()}x"},
    ],
)
async def test_json_is_taken_and_answered_however_it_is_declared(headers):
    response = await RankHouse().post(GOOD, **headers)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


async def test_errors_come_from_the_applications_table():
    check_problem(await RankHouse().post(b"{"), 400, "body-unreadable")
    content = check_problem(await RankHouse().post({**GOOD, "user": 1, "top_k": 0}), 422, "request-invalid")
    assert {each["field"] for each in content["errors"]} == {"user", "top_k"}
    too_long = await RankHouse().post(b" " * 5_000)
    check_problem(too_long, 413, "body-too-large")
    assert too_long.headers["connection"] == "close"
    check_problem(await RankHouse().post({**GOOD, "candidates": list(range(301))}), 422, "request-invalid")
    check_problem(await RankHouse().post({**GOOD, "timeout_ms": 1_001}), 422, "request-invalid")


async def test_what_the_ranker_refuses_is_a_problem_too():
    invalid = RequestInvalidError([FieldProblem("context.hour", "not a number")])
    content = check_problem(await RankHouse(invalid).post(GOOD), 422, "request-invalid")
    assert content["errors"] == [{"field": "context.hour", "reason": "not a number"}]
    refused = await RankHouse(OverloadedError("full", retry_after_s=1.7)).post(GOOD)
    check_problem(refused, 429, "overloaded")
    assert refused.headers["retry-after"] == "2"


async def test_an_unexpected_error_is_logged_and_answered_without_its_text(caplog):
    response = await RankHouse(ZeroDivisionError("SECRET")).post(GOOD)
    check_problem(response, 500, "internal")
    assert "SECRET" not in response.text
    assert any(record.exc_info for record in caplog.records)


async def test_an_unexpected_error_reaches_the_server_as_well():
    with pytest.raises(ZeroDivisionError):
        await run(RankHouse(ZeroDivisionError()).door, {}, [BODY])


async def test_a_handler_that_is_installed_later_counts():
    house = RankHouse(OverloadedError("full", retry_after_s=1.0))
    seen = []
    table = house.app.exception_handlers
    before = table[OverloadedError]
    table[OverloadedError] = lambda request, error: seen.append(request) or before(request, error)
    await house.post(GOOD)
    assert isinstance(seen[0], Request)


OVERRIDES = {**GOOD, "overrides": {"experiment": "arm"}}


async def test_overrides_are_for_admins():
    check_problem(await RankHouse().post(OVERRIDES), 401, "not-authenticated")
    house = RankHouse(token="token")
    check_problem(await house.post(OVERRIDES), 401, "not-authenticated")
    check_problem(await house.post(OVERRIDES, Authorization="Bearer other"), 401, "not-authenticated")
    assert house.ranker.queries == []
    assert (await house.post(OVERRIDES, Authorization="Bearer token")).status_code == 200
    assert house.ranker.queries[0].overrides == {"experiment": "arm"}


async def run(app, scope_changes, messages):
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": URL,
        "raw_path": URL.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        **scope_changes,
    }
    left, sent = list(messages), []

    async def receive():
        return left.pop(0)

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return scope, sent


BODY = {"type": "http.request", "body": json.dumps(GOOD).encode(), "more_body": False}


@pytest.mark.parametrize(
    ("failure", "body", "status"),
    [
        (None, json.dumps(GOOD).encode(), 200),
        (None, b"{", 400),
        (OverloadedError("full", retry_after_s=1.0), json.dumps(GOOD).encode(), 429),
        (ZeroDivisionError(), json.dumps(GOOD).encode(), 500),
    ],
)
async def test_every_request_is_counted_once_by_its_route_and_status(failure, body, status):
    house = RankHouse(failure)
    assert (await house.post(body)).status_code == status
    assert house.stages.requests == [(URL, "POST", status)]


async def test_a_request_that_is_given_up_counts_as_one_without_an_answer():
    house = RankHouse(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await run(house.door, {}, [BODY])
    assert house.stages.requests == [(URL, "POST", 0)]


async def test_an_answer_that_cannot_be_sent_is_not_answered_again(caplog):
    house, sent = RankHouse(), []

    async def send(message):
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            raise OSError("gone")

    async def receive():
        return BODY

    scope = {"type": "http", "method": "POST", "path": URL, "headers": [(b"content-type", b"application/json")]}
    with pytest.raises(OSError, match="gone"):
        await house.door(scope, receive, send)
    assert sent == ["http.response.start", "http.response.body"]
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(("method", "path"), [("GET", URL), ("POST", "/rank/"), ("GET", "/openapi.json")])
async def test_what_is_not_for_the_door_is_the_frameworks_and_counted_there(method, path):
    house = RankHouse()
    await house.call(method, path)
    assert house.stages.requests == []


async def test_an_answer_is_offered_as_the_bytes_that_go_out():
    offered = []
    house = RankHouse(offer=offered.append)
    response = await house.post(GOOD)
    assert offered == [response.content]
    await house.post(b"{")
    assert len(offered) == 1


async def test_of_a_binary_answer_the_document_is_offered():
    offered = []
    house = RankHouse(offer=offered.append)
    binary = await house.post({**GOOD, "request_id": "a"}, Accept=BINARY.decode())
    document = (await house.post({**GOOD, "request_id": "a"})).json()
    assert binary.headers["content-type"] == BINARY.decode()
    told = json.loads(offered[0])
    assert list(told["timings_ms"]) == list(document["timings_ms"])
    assert told | {"timings_ms": 0} == document | {"timings_ms": 0}


async def test_under_a_prefix_the_framework_finds_the_same_endpoint():
    _, sent = await run(RankHouse().door, {"root_path": "/api", "path": f"/api{URL}"}, [BODY])
    assert sent[0]["status"] == 200
    assert json.loads(sent[1]["body"])["items"][0]["id"] == 5


async def test_a_prefix_that_is_called_like_the_route_is_not_the_route():
    _, sent = await run(RankHouse().door, {"root_path": URL}, [BODY])
    assert sent[0]["status"] == 404


async def test_a_client_that_left_is_not_ranked_for():
    house = RankHouse()
    _, sent = await run(house.door, {}, [{"type": "http.disconnect"}])
    assert sent[0]["status"] == 400
    assert house.ranker.queries == []
