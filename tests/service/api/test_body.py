"""Hostile and mistaken bodies: each refused with a status a client can act on, never with what it sent."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api import body as body_module
from service.api.body import parse_body
from service.api.problems import MAX_LISTED, problem
from service.api.schemas import RankRequest
from service.errors import BodyUnreadableError, FieldProblem, RequestInvalidError

GOOD = {"user_id": 1, "candidates": [1, "two", 3]}

NOT_JSON = [
    b"",
    b"{",
    b"\xff\xfe{\x00}\x00",
    b'{"user_id": "\\ud800", "candidates": [1]}',
    b'{"user_id": 1, "candidates": [1]} trailing',
    b"[" * 250_000,
    b'{"a":' * 100_000,
    b'{"user_id": 1, "candidates": [' + b"9" * 5_000 + b"]}",
    b"{'user_id': 1}",
    '{"user_id": 1, "candidates": [1]}'.encode("utf-16"),
]

WRONG = [
    ({}, "user_id"),
    ([], "(body)"),
    (None, "(body)"),
    ("text", "(body)"),
    ({**GOOD, "user_id": None}, "user_id"),
    ({**GOOD, "user_id": True}, "user_id"),
    ({**GOOD, "user_id": 1.5}, "user_id"),
    ({**GOOD, "user_id": ""}, "user_id"),
    ({**GOOD, "user_id": 1 << 63}, "user_id"),
    ({**GOOD, "user_id": "x" * 257}, "user_id"),
    ({**GOOD, "user_id": "nul\x00"}, "user_id"),
    ({**GOOD, "user_id": "line\nbreak"}, "user_id"),
    ({**GOOD, "candidates": []}, "candidates"),
    ({**GOOD, "candidates": "abc"}, "candidates"),
    ({**GOOD, "candidates": [1, None]}, "candidates[1]"),
    ({**GOOD, "candidates": [1, {"id": 2}]}, "candidates[1]"),
    ({**GOOD, "candidates": [[1]]}, "candidates[0]"),
    ({**GOOD, "top_k": 0}, "top_k"),
    ({**GOOD, "top_k": "3"}, "top_k"),
    ({**GOOD, "top_k": True}, "top_k"),
    ({**GOOD, "timeout_ms": -1}, "timeout_ms"),
    ({**GOOD, "timeout_ms": 1.5}, "timeout_ms"),
    ({**GOOD, "explain": "everything"}, "explain"),
    ({**GOOD, "request_id": "a b"}, "request_id"),
    ({**GOOD, "request_id": "x" * 129}, "request_id"),
    ({**GOOD, "history": [None]}, "history[0]"),
    ({**GOOD, "context": {"hour": {"deep": 1}}}, "context.hour"),
    ({**GOOD, "candidate_features": {"price": 1}}, "candidate_features.price"),
    ({**GOOD, "candidate_features": {"price": [1, {}]}}, "candidate_features.price[1]"),
    ({**GOOD, "overrides": {"exp": 1}}, "overrides.exp"),
    ({**GOOD, "min_history_version": -1}, "min_history_version"),
    ({**GOOD, "user": 1}, "user"),
]


@pytest.mark.parametrize("body", NOT_JSON)
def test_bytes_that_are_not_json_are_unreadable(body):
    with pytest.raises(BodyUnreadableError):
        parse_body(RankRequest, body)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400"])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(number):
    for body in (b'{"user_id": 1, "candidates": [%s]}', b'{"user_id": 1, "candidates": [1], "context": {"a": %s}}'):
        with pytest.raises((RequestInvalidError, BodyUnreadableError)):
            parse_body(RankRequest, body % number)


@pytest.mark.parametrize(("body", "field"), WRONG)
def test_a_wrong_field_is_named_once(body, field):
    with pytest.raises(RequestInvalidError) as caught:
        parse_body(RankRequest, json.dumps(body).encode())
    fields = [each.field for each in caught.value.problems]
    assert field in fields
    assert len(fields) == len(set(fields))


def test_every_wrong_field_is_listed():
    with pytest.raises(RequestInvalidError) as caught:
        parse_body(RankRequest, b'{"user_id": "", "candidates": [], "top_k": 0, "extra": 1}')
    assert {each.field for each in caught.value.problems} == {"user_id", "candidates", "top_k", "extra"}


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(body):
    with pytest.raises((RequestInvalidError, BodyUnreadableError)):
        parse_body(RankRequest, body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*RankRequest.model_fields, "other"]), json_values))
def test_any_json_is_accepted_or_refused_with_fields(body):
    problems = ["none"]
    try:
        parse_body(RankRequest, json.dumps(body).encode("utf-8", "surrogatepass"))
    except RequestInvalidError as error:
        problems = list(error.problems)
    except BodyUnreadableError:
        pass
    assert problems


def test_a_problem_stays_small_and_does_not_repeat_a_clients_names():
    marker = "SECRET \N{SNOWMAN}" * 50
    errors = [FieldProblem(f"context.{marker}", "unknown field")] * 1_000
    response = problem(422, "request-invalid", "wrong", errors=errors)
    assert len(response.body) <= 2_048
    assert b"SECRET" not in response.body
    content = json.loads(response.body)
    assert len(content["errors"]) == MAX_LISTED
    assert "1000 problems" in content["detail"]
    assert response.media_type == "application/problem+json"


@pytest.mark.parametrize("values", [[1] * 1_001, ["a"] * 1_001])
def test_a_list_value_is_bounded(values):
    for wire in ({"context": {"tags": values}}, {"candidate_features": {"tags": [values]}}):
        with pytest.raises(RequestInvalidError):
            parse_body(RankRequest, json.dumps({"user_id": 1, "candidates": [1], **wire}).encode())
        (name,) = wire
        ok = {"tags": values[:1_000]} if name == "context" else {"tags": [values[:1_000]]}
        parse_body(RankRequest, json.dumps({"user_id": 1, "candidates": [1], name: ok}).encode())


HUGE_AND_WRONG = [
    {"candidates": [[]] * 50_000},
    {"candidates": [1.5] * 50_000},
    {"history": [[]] * 50_000},
    {"context": {"tags": [1.5] * 50_000}},
    {"candidate_features": {"tags": [[1.5]] * 50_000}},
    {"candidate_features": {"tags": [{}] * 50_000}},
    {"context": {str(place): {} for place in range(20_000)}},
    {str(place): 1 for place in range(20_000)},
    {"overrides": {str(place): 1 for place in range(20_000)}},
]


@pytest.mark.parametrize("wrong", HUGE_AND_WRONG)
def test_a_body_that_is_wrong_everywhere_lists_a_bounded_number_of_problems(wrong, monkeypatch):
    looked_at = []
    monkeypatch.setattr(body_module, "_path", lambda error, path=body_module._path: looked_at.append(error) or path(error))
    with pytest.raises(RequestInvalidError) as caught:
        parse_body(RankRequest, json.dumps({"user_id": 1, "candidates": [1], **wrong}).encode())
    assert 1 <= len(caught.value.problems) <= body_module.MAX_ERRORS
    assert len(looked_at) <= body_module.MAX_ERRORS
