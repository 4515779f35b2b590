"""The fast decoder beside the wire schema: what it accepts, the schema accepts, and both understand the same."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api.body import parse_body
from service.api.rank_call import call_of
from service.api.rank_decoder import decode_call
from service.api.schemas import MAX_FIELDS, RankRequest
from service.errors import BodyUnreadableError, RequestInvalidError
from service.settings import RequestLimits

LIMITS = RequestLimits(max_candidates=50, max_timeout_ms=1_000)
BIG = 1 << 63
GENERATED = "made up"


def understood(call):
    """All that a call says, with the types of values: 1, 1.0 and True are equal, but not the same."""
    query = call.query
    ids = [int(text) for text in query.candidates] if call.ids is None else list(call.ids)
    return repr(
        (
            query.user_id,
            tuple(query.candidates),
            query.deadline,
            sorted(query.context.items()),
            sorted(query.candidate_features.items()),
            query.history,
            query.top_k,
            query.explain_attention,
            dict(query.overrides),
            query.min_history_version,
            call.user_id,
            ids,
        )
    )


def the_schemas_way(body):
    try:
        return call_of(parse_body(RankRequest, body), LIMITS, 5.0)
    except (BodyUnreadableError, RequestInvalidError):
        return None


def compare(body):
    fast = decode_call(body, LIMITS, 5.0)
    if fast is not None:
        slow = the_schemas_way(body)
        assert slow is not None, f"only the fast way accepts {body!r}"
        assert understood(fast) == understood(slow)
        if b"request_id" in body and json.loads(body).get("request_id"):
            assert fast.query.request_id == slow.query.request_id
    return fast


integers = st.integers(0, 10**6) | st.sampled_from(
    [0, -1, BIG - 1, BIG, -BIG, -BIG - 1, 10**17, 10**18, 10**19, 1 << 64, 10**40]
)
texts = st.text('ab7é\N{SNOWMAN}\N{GRINNING FACE}"\\/', min_size=1, max_size=4) | st.sampled_from(
    ["", "a" * 256, "a" * 257, "é" * 128, "é" * 129, "\x00", "\n", "\x7f", "\u200b", "\ud800", "\ue000", " ", "12", "-0", "01"]
)
ids = integers | texts
odd = st.sampled_from([1.0, 1.5, 1e300, -0.0, True, False, None, [], {}, "x", float("nan"), float("inf"), [1], ["a", 2], [1.0]])
values = ids | odd | st.lists(ids | odd, max_size=3) | st.floats()
names = st.sampled_from(["hour", "device", "é", "", "n" * 64, "n" * 65])
lists_of_ids = st.lists(integers, max_size=6) | st.lists(texts, max_size=6) | st.lists(ids | odd, max_size=4)
bodies = st.fixed_dictionaries(
    {"user_id": ids | odd, "candidates": lists_of_ids | odd},
    optional={
        "context": st.dictionaries(names, values, max_size=3) | odd,
        "candidate_features": st.dictionaries(names, st.lists(values, max_size=3) | odd, max_size=2),
        "history": lists_of_ids | odd,
        "top_k": integers | odd,
        "timeout_ms": st.integers(1, 2_000) | odd,
        "explain": st.sampled_from(["none", "attention", "all", None]),
        "request_id": st.sampled_from(["a:b", "x" * 128, "x" * 129, "a b", "a\n", "é", "", None, 1]),
        "min_history_version": integers | odd,
        "overrides": st.sampled_from([{}, {"a": "b"}, None]),
        "other": odd,
    },
)
written = st.builds(
    lambda body, spaces, ascii_only: json.dumps(body, separators=spaces, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    ),
    bodies,
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t"), (",  ", ":")]),
    st.booleans(),
)
TOKENS = [
    *(b'1.0 1e2 1E400 -0 -1 -0.0 01 +1 NaN Infinity true null [ ] { } , : " \\ 9 99999999999999999999'.split()),
    *(
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',
        b"\\u0000",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\x0b",
        b" ",
        b"\x00",
    ),
    *(b'"user_id":2,', b'"candidates":[7],', b'"candidates":["\xff"],', b'"context":1,', b'"top_k":1.0,', b"[" * 2_000),
]


@st.composite
def mutated(draw):
    body = draw(written)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        stop = min(len(body), start + draw(st.integers(0, 3)))
        body = body[:start] + draw(st.sampled_from(TOKENS) | st.binary(max_size=2)) + body[stop:]
    return body


@settings(max_examples=800, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(mutated())
def test_what_the_fast_way_accepts_the_schema_accepts_and_understands_alike(body):
    compare(body)


@settings(max_examples=300)
@given(st.binary(max_size=60), st.sampled_from([b'{"user_id": 1, "candidates": [1', b'{"user_id": "']))
def test_random_bytes_are_accepted_by_both_or_not_by_the_fast_way(noise, start):
    compare(noise)
    compare(start + noise + b"]}")


COMMON = [
    {"user_id": 1, "candidates": [1, 2, 3]},
    {"user_id": "u", "candidates": ["a", "b", "é"]},
    {"user_id": 1, "candidates": [BIG - 1, -BIG, 0]},
    {"user_id": 1, "candidates": [7], "top_k": 3, "timeout_ms": 50, "request_id": "r-1", "explain": "attention"},
    {"user_id": 1, "candidates": [7], "context": {"hour": 3, "device": "phone", "ratio": 0.5, "new": True, "tags": ["a", 1]}},
    {"user_id": 1, "candidates": [7, 8], "candidate_features": {"price": [1.5, None]}, "history": [1, 2]},
    {"user_id": 1, "candidates": [7], "history": [], "min_history_version": 0},
]


@pytest.mark.parametrize("body", COMMON)
def test_common_bodies_take_the_fast_way(body):
    for content in (json.dumps(body), json.dumps(body, separators=(",", ":")), json.dumps(body, indent=1)):
        assert compare(content.encode()) is not None


@pytest.mark.parametrize(
    "body",
    [
        b'{"user_id": 1, "candidates": ["\xff"], "candidates": [1]}',
        b'{"user_id": 1, "candidates": []}',
        b'{"user_id": 1, "candidates": [ ]}',
        b'{"user_id": 1, "candidates": [[1]]}',
        b'{"user_id": 1, "candidates": [1.0]}',
        b'{"user_id": 1, "candidates": [01]}',
        b'{"user_id": 1, "candidates": [1 2]}',
        b'{"user_id": 1, "candidates": [1,]}',
        b'{"user_id": true, "candidates": [1]}',
        b'{"user_id": 1, "candidates": [1], "top_k": 1.0}',
        b'{"user_id": 1, "candidates": [1], "overrides": {}}',
        b'{"user_id": 1, "candidates": [1], "timeout_ms": 1001}',
        b'{"user_id": 1, "candidates": [1]} x',
        b'{"user_id": 1, "candidates": [9223372036854775808]}',
        b'{"user_id": 1, "candidates": ["a\\u0000"]}',
        b'{"user_id": 1, "candidates": [%s]}' % b",".join([b"1"] * 51),
        b'{"user_id": 1, "candidates": [1], "history": [%s]}' % b",".join([b"1"] * 10_001),
        b'{"user_id": 1, "candidates": [1], "context": {%s}}' % b",".join(b'"%d": 1' % each for each in range(MAX_FIELDS + 1)),
        b'{"user_id": 1, "candidates": [1], "context": {"a": [%s]}}' % b",".join([b"1"] * 1_001),
        b'{"user_id": 1, "candidates": ' + b"[" * 100_000,
    ],
)
def test_what_is_not_a_common_body_is_left_to_the_schema(body):
    assert decode_call(body, LIMITS, 5.0) is None


def test_a_key_that_stands_twice_counts_as_the_schema_counts_it():
    twice = [
        b'{"user_id": 1, "user_id": 2, "candidates": [1], "candidates": [2, 3]}',
        b'{"user_id": 1, "candidates": "no list", "candidates": [2]}',
        b'{"user_id": 1, "candidates": [2], "context": {"a": 1, "a": "x"}, "top_k": 1, "top_k": 2}',
        b'{"user_id": 1, "candidates": [1], "context": {%s}}' % b",".join([b'"a": 1'] * (MAX_FIELDS + 1)),
    ]
    assert [compare(body) is not None for body in twice] == [True] * 4


def test_made_up_request_ids_differ():
    body = b'{"user_id": 1, "candidates": [1]}'
    made = {decode_call(body, LIMITS, 5.0).query.request_id for _ in range(100)}
    assert len(made) == 100
    assert all(len(each) == 32 for each in made)
