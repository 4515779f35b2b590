"""``POST /events`` as clients meet it: through the application's routes, over an applier in memory."""

import asyncio
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.errors import SpoolFailedError, SpoolFullError
from service.api.events import MAX_REFUSALS_LISTED
from tests.service.ingestion.stand_ins import EVENT, MAX_EVENTS, House, make_app, post

SECRET = "SECRET"


def other(**changes):
    return {**EVENT, **changes}


def check_problem(response, status, kind):
    content = response.json()
    assert response.status_code == content["status"] == status, content
    assert response.headers["content-type"] == "application/problem+json"
    assert content["type"] == f"urn:rankline:problem:{kind}"
    assert len(response.content) <= 2_048
    assert SECRET not in response.text
    return content


async def test_one_event_is_taken_and_the_new_version_told():
    house = House()
    response = await house.post(EVENT)
    assert response.status_code == 200
    assert response.json() == {
        "accepted": 1,
        "duplicates": 0,
        "refused_count": 0,
        "refused": [],
        "users": [{"user_id": 1, "history_version": 1}],
        "applied": True,
    }
    (kept,) = house.applier.kept
    assert (kept.event_id, kept.user_id, kept.item_id, kept.type) == ("e1", "1", "2", "click")
    assert abs(kept.time - time.time()) < 60
    assert kept.time == kept.received_at // 1


async def test_a_retried_event_is_a_duplicate_and_the_version_stays():
    house = House()
    await house.post(EVENT)
    response = await house.post({"events": [EVENT]})
    assert (response.status_code, response.json()["duplicates"]) == (200, 1)
    assert response.json()["users"] == [{"user_id": 1, "history_version": 1}]


async def test_users_are_listed_once_in_the_type_they_came_in():
    house = House()
    events = [other(event_id=number, user_id=user) for number, user in enumerate(["7", 8, 7, "a"])]
    response = await house.post({"events": events})
    assert response.json()["users"] == [
        {"user_id": "7", "history_version": 2},
        {"user_id": 8, "history_version": 1},
        {"user_id": "a", "history_version": 1},
    ]


async def test_bad_events_are_refused_one_by_one_and_the_good_ones_taken():
    house = House()
    events = [
        other(event_id="a"),
        other(event_id="b", item_id=None),
        SECRET,
        other(event_id="c", type="rate", value=5, time=time.time() - 10),
        other(event_id="d", type=SECRET),
        other(event_id="e", context={"hour": SECRET, "SECRET \N{SNOWMAN}": 1}),
    ]
    response = await house.post({"events": events})
    content = response.json()
    assert (response.status_code, content["accepted"], content["refused_count"]) == (200, 2, 4)
    fields = {each["index"]: [error["field"] for error in each["errors"]] for each in content["refused"]}
    assert fields == {1: ["item_id"], 2: ["(event)"], 4: ["type"], 5: ["context.hour", "(a name that is not a field's)"]}
    assert SECRET not in response.text
    assert [event.event_id for event in house.applier.kept] == ["a", "c"]
    assert house.counted() == {
        ("events", "click", "accepted"): 1,
        ("events", "rate", "accepted"): 1,
        ("events", "click", "refused"): 2,
        ("events", "other", "refused"): 2,
        ("event", "malformed"): 2,
        ("event", "type"): 1,
        ("event", "context"): 1,
    }


async def test_not_finite_numbers_spoil_only_their_own_event():
    body = b'{"events": [%s, %s, %s]}' % tuple(
        json.dumps(each).encode()
        for each in (other(value=float("nan")), other(event_id=2, time=float("inf")), other(event_id=3))
    )
    content = (await House().post(body)).json()
    assert (content["accepted"], [each["index"] for each in content["refused"]]) == (1, [0, 1])


async def test_the_last_of_a_key_that_stands_twice_counts_as_in_a_ranking():
    house = House()
    response = await house.post(b'{"event_id": 1, "event_id": 2, "user_id": 1, "item_id": 1, "type": "click"}')
    assert response.status_code == 200
    assert [event.event_id for event in house.applier.kept] == ["2"]


async def test_many_refusals_are_counted_in_full_but_listed_in_part():
    house = House()
    app = make_app(house.intake, 1 << 20)
    bad = [other(event_id="", user_id="", item_id="", type=1, context={str(place): 1 for place in range(20)})] * (
        MAX_EVENTS - 1
    )
    response = await post(app, json.dumps({"events": [EVENT, *bad]}).encode())
    content = response.json()
    assert (content["accepted"], content["refused_count"]) == (1, MAX_EVENTS - 1)
    assert len(content["refused"]) == min(MAX_REFUSALS_LISTED, MAX_EVENTS - 1)
    assert all(len(each["errors"]) == 4 for each in content["refused"])


async def test_when_no_event_is_taken_the_request_is_refused_with_the_fields():
    house = House()
    content = check_problem(await house.post({"events": [1, other(user_id=SECRET * 99)]}), 422, "request-invalid")
    assert [each["field"] for each in content["errors"]] == ["events[0]", "events[1].user_id"]
    content = check_problem(await house.post(other(type="rate")), 422, "request-invalid")
    assert [each["field"] for each in content["errors"]] == ["value"]
    assert house.counted()[("event", "malformed")] == 2
    assert house.applier.kept == []


LONG = "x" * 300
DEEP = json.loads("[" * 90 + "]" * 90)
HOSTILE = [
    (b"", 400, None),
    (b"{", 400, None),
    (b"\xff\xfe{\x00}\x00", 400, None),
    (b"[" * 10_000, 400, None),
    (b'{"a":' * 10_000, 400, None),
    (b"[" * 60_000, 422, "(body)"),
    (b'{"events": [' + b"[]," * 20_000 + b"[]]}", 422, "(body)"),
    (b'{"event_id": ' + b"9" * 5_000 + b"}", 400, None),
    (b'{"event_id": "\\ud800"}', 400, None),
    (json.dumps(EVENT).encode() + b" x", 400, None),
    (json.dumps(EVENT).encode("utf-16"), 400, None),
    (b"\xef\xbb\xbf" + json.dumps(EVENT).encode(), 400, None),
    (b" " * 65_537, 413, None),
    (None, 422, "(body)"),
    ([], 422, "(body)"),
    ([EVENT], 422, "(body)"),
    ("text", 422, "(body)"),
    (b"NaN", 422, "(body)"),
    ({"events": []}, 422, "events"),
    ({"events": {}}, 422, "events"),
    ({"events": None}, 422, "events"),
    ({"events": [EVENT] * (MAX_EVENTS + 1)}, 422, "events"),
    ({"events": [EVENT], SECRET: 1}, 422, "(body)"),
    ({"events": [other(events=[EVENT])]}, 422, "events[0].events"),
    ({"events": [None] * MAX_EVENTS}, 422, "events[0]"),
    ({}, 422, "event_id"),
    (other(event_id=None), 422, "event_id"),
    (other(event_id=True), 422, "event_id"),
    (other(event_id=1.0), 422, "event_id"),
    (other(event_id=""), 422, "event_id"),
    (other(event_id=LONG), 422, "event_id"),
    (other(user_id=1 << 63), 422, "user_id"),
    (other(user_id="nul\x00"), 422, "user_id"),
    (other(item_id="line\nbreak"), 422, "item_id"),
    (other(item_id=DEEP), 422, "item_id"),
    (other(type=["click"]), 422, "type"),
    (other(type=SECRET), 422, "type"),
    (other(type="click" * 99), 422, "type"),
    (other(time=True), 422, "time"),
    (other(time=1e12), 422, "time"),
    (other(time=-5), 422, "time"),
    (other(time="2030-01-31"), 422, "time"),
    (other(time="2" * 65), 422, "time"),
    (other(time={"s": 1}), 422, "time"),
    (b'{"event_id":1,"user_id":1,"item_id":1,"type":"click","time":1e400}', 422, "time"),
    (b'{"event_id":1,"user_id":1,"item_id":1,"type":"rate","value":-Infinity}', 422, "value"),
    (other(type="rate", value=True), 422, "value"),
    (other(type="rate", value="4"), 422, "value"),
    (other(value=1), 422, "value"),
    (other(request_id="a b"), 422, "request_id"),
    (other(request_id=5), 422, "request_id"),
    (other(history_version=-1), 422, "history_version"),
    (other(history_version="1"), 422, "history_version"),
    (other(context=[]), 422, "context"),
    (other(context={str(place): 1 for place in range(257)}), 422, "context"),
    (other(context={"page": DEEP}), 422, "context.page"),
    (other(context={"page": "x" * 20_000}), 422, "context.page"),
    (other(**{f"f{place}": SECRET for place in range(2_000)}), 422, "(event)"),
    (other(extra=SECRET), 422, "extra"),
    (other(schema=1), 422, "schema"),
]


@pytest.mark.parametrize(("body", "status", "field"), HOSTILE)
async def test_hostile_bodies_are_refused_with_a_status_and_the_field(body, status, field):
    house = House()
    response = await house.post(body)
    kinds = {400: "body-unreadable", 413: "body-too-large", 422: "request-invalid"}
    content = check_problem(response, status, kinds[status])
    assert (content["errors"][0]["field"] if field else None) == field
    assert house.applier.kept == []


@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {"content-encoding": "gzip"}])
async def test_another_media_type_is_refused(headers):
    check_problem(await House().post(EVENT, **headers), 415, "unsupported-media-type")


async def test_events_that_the_store_has_not_taken_are_promised_not_told():
    house = House()
    house.applier.behind = True
    response = await house.post({"events": [EVENT, other(event_id="", user_id=3)]})
    content = response.json()
    assert response.status_code == 202
    assert (content["accepted"], content["duplicates"], content["refused_count"], content["applied"]) == (1, None, 1, False)
    assert content["users"] == [{"user_id": 1, "history_version": None}]


@pytest.mark.parametrize(
    ("error", "kind", "retry_after"),
    [
        (SpoolFullError("full", retry_after_s=2.2), "events-spool-full", "3"),
        (SpoolFullError("full", retry_after_s=0.0), "events-spool-full", "1"),
        (SpoolFailedError("/secret/path"), "events-spool-failed", "5"),
    ],
)
async def test_events_that_cannot_be_kept_may_be_sent_again_later(error, kind, retry_after):
    house = House()
    house.applier.error = error
    response = await house.post(EVENT)
    check_problem(response, 503, kind)
    assert response.headers["retry-after"] == retry_after
    assert "secret" not in response.text
    house.applier.error = None
    assert (await house.post(EVENT)).json()["duplicates"] == 0


async def test_more_requests_at_once_than_allowed_are_sent_away_and_the_others_finish():
    house = House(max_requests=3)
    house.applier.gate = asyncio.Event()
    waiting = [asyncio.create_task(house.post(other(event_id=number))) for number in range(3)]
    for _ in waiting:
        await house.applier.asked.acquire()
    response = await house.post(EVENT)
    check_problem(response, 503, "events-too-many-requests")
    assert response.headers["retry-after"] == "1"
    house.applier.gate.set()
    assert [each.status_code for each in await asyncio.gather(*waiting)] == [200, 200, 200]
    assert (await house.post(EVENT)).status_code == 200


async def test_a_service_without_declared_events_says_so():
    check_problem(await post(make_app(None), json.dumps(EVENT).encode()), 404, "events-not-declared")


async def test_the_document_describes_the_route():
    document = House().app.openapi()
    operation = document["paths"]["/events"]["post"]
    single, batch = operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert single["required"] == ["event_id", "user_id", "item_id", "type"]
    assert batch["properties"]["events"]["maxItems"] == MAX_EVENTS
    assert "16 KiB" in single["description"]
    for name in ("event_id", "user_id", "item_id"):
        assert "256 bytes" in single["properties"][name]["description"]
        assert {"type": "string", "minLength": 1, "maxLength": 256} in single["properties"][name]["anyOf"]
    assert [
        each["maxItems"] for each in single["properties"]["context"]["additionalProperties"]["anyOf"] if "items" in each
    ] == [1_000]
    assert {"200", "202", "400", "404", "408", "413", "415", "422", "503"} <= set(operation["responses"])
    for status in ("200", "202"):
        assert "EventsResponse" in json.dumps(operation["responses"][status])
    components = document["components"]["schemas"]
    assert {"accepted", "duplicates", "refused_count", "refused", "users", "applied"} == set(
        components["EventsResponse"]["properties"]
    )
    # Whoever reads the document must be able to follow it.
    references = [part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]]
    assert set(references) <= set(components)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ids = st.integers(0, 3) | st.sampled_from(["a", "b"])
good = st.fixed_dictionaries({"event_id": ids, "user_id": ids, "item_id": ids, "type": st.sampled_from(["view", "click"])})
names = st.sampled_from([*EVENT, "time", "value", "request_id", "history_version", "context", "other"])
mutated = st.builds(lambda event, name, value: {**event, name: value}, good, names, json_values)
bodies = json_values | mutated | st.fixed_dictionaries({"events": st.lists(good | mutated | json_values, max_size=8)})


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(bodies)
async def test_any_json_gets_an_answer_and_every_event_is_accepted_or_refused(body):
    house = House()
    response = await house.post(json.dumps(body).encode("utf-8", "surrogatepass"))
    content = response.json()
    assert response.status_code in (200, 400, 422)
    counted = sum(value for (name, *_), value in house.counted().items() if name == "events")
    if response.status_code == 200:
        sent = len(body["events"]) if "events" in body else 1
        assert content["accepted"] + content["refused_count"] == sent == counted
        assert len(house.applier.kept) == content["accepted"] - content["duplicates"]
        assert sum(each["history_version"] for each in content["users"]) == len(house.applier.kept)
    else:
        assert response.headers["content-type"] == "application/problem+json"
        assert house.applier.kept == []
        assert counted in (0, len(body["events"]) if isinstance(body, dict) and "events" in body else 1)
