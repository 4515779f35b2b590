"""The columnar body: the same ranking as by JSON, and bytes that are not one make a problem, never a failure."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.binary_body import ANSWER_HEADER, REQUEST_HEADER, decode_binary_call
from service.api.media import BINARY
from service.api.rank_decoder import decode_call
from service.errors import BodyUnreadableError, RequestInvalidError
from tests.service.api.rank_stand_ins import LIMITS, RankHouse

MEDIA = BINARY.decode()


def pack(user, candidates, options=b"", *, magic=b"RKRQ", version=1, flags=0, **wrong):
    """A body as docs/binary-body.md says; ``wrong`` overrides lengths in the header."""
    if all(isinstance(each, str) for each in candidates):
        texts = [each.encode() for each in candidates]
        column = np.cumsum([0, *map(len, texts)]).astype("<u4").tobytes() + b"".join(texts)
        flags, text_bytes = flags | 2, sum(map(len, texts))
    else:
        column, text_bytes = np.array(candidates, "<i8").tobytes(), 0
    name = user.encode() if isinstance(user, str) else b""
    flags |= 1 if name else 0
    lengths = {"count": len(candidates), "text": text_bytes, "user_bytes": len(name), "json": len(options), **wrong}
    return REQUEST_HEADER.pack(magic, version, flags, *lengths.values(), 0 if name else user) + column + name + options


def unpack(content):
    """Places, scores by name, and the rest, read with nothing but what the document says."""
    magic, version, flags, items, names, json_bytes, zero = struct.unpack_from("<4sHHIIII", content)
    assert (magic, version, zero, ANSWER_HEADER.size) == (b"RKAN", 1, 0, 24)
    places = np.frombuffer(content, "<i4", items, 24)
    table = np.frombuffer(content, "<f4", items * names, 24 + 4 * items).reshape(names, items)
    rest = json.loads(content[24 + 4 * items * (1 + names) :])
    assert len(content) == 24 + 4 * items * (1 + names) + json_bytes
    return flags, places.tolist(), dict(zip(rest["score_names"], table.tolist(), strict=True)), rest


OPTIONS = {
    "top_k": 2,
    "timeout_ms": 70,
    "request_id": "r:1",
    "context": {"hour": 3},
    "candidate_features": {"price": [1.5, 2, 3]},
}


@pytest.mark.parametrize("ids", [[3, -1, (1 << 63) - 1], ["a", "é", "\N{SNOWMAN}0"]])
@pytest.mark.parametrize("user", [0, -5, "u\N{SNOWMAN}"])
@pytest.mark.parametrize("options", [{}, OPTIONS, {"history": [1, "b"], "explain": "attention"}])
def test_both_bodies_make_the_same_query(ids, user, options):
    options = {"request_id": "r", **options}
    binary = decode_binary_call(pack(user, ids, json.dumps(options).encode()), LIMITS, 5.0)
    as_json = json.dumps({"user_id": user, "candidates": ids, **options}).encode()
    assert repr(binary.query) == repr((decode_call(as_json, LIMITS, 5.0) or binary).query)
    assert binary.query.candidates == tuple(map(str, ids))
    assert (binary.query.user_id, binary.user_id) == (str(user), user)
    assert binary.query.history == (("1", "b") if "history" in options else None)


@pytest.mark.parametrize("options", [b"", b"{}", b" {} "])
def test_options_may_be_absent(options):
    query = decode_binary_call(pack(1, [2], options), LIMITS, 5.0).query
    assert (query.top_k, query.deadline) == (None, 5.0 + LIMITS.default_timeout_ms / 1e3)


async def test_a_binary_answer_holds_the_ranking_of_the_json_answer():
    house = RankHouse()
    body = pack(1, [7, 8, 9], b'{"top_k": 2, "request_id": "r"}')
    as_json = (await house.post(body, Content_Type=MEDIA)).json()
    assert [(item["id"], item["score"]) for item in as_json["items"]] == [(9, 2.5), (8, 1.5)]
    response = await house.post(body, Content_Type=MEDIA, Accept=f"text/html, {MEDIA};q=1")
    assert (response.status_code, response.headers["content-type"]) == (200, MEDIA)
    flags, places, scores, rest = unpack(response.content)
    assert (flags, places, scores) == (1, [2, 1], {"click": [2.5, 1.5], "like": [0.25, 0.25]})
    del as_json["items"], rest["score_names"]
    assert list(rest.pop("timings_ms")) == list(as_json.pop("timings_ms"))
    assert rest == as_json


async def test_a_json_body_may_ask_for_a_binary_answer():
    response = await RankHouse().post({"user_id": "u", "candidates": ["a", "b"]}, Accept=MEDIA)
    assert unpack(response.content)[1] == [1, 0]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (pack(1, [2])[:39], 400),
        (pack(1, [2]) + b"x", 400),
        (pack(1, [2], magic=b"JSON"), 400),
        (pack(1, [2], version=2), 400),
        (pack(1, [2], flags=4), 400),
        (pack(1, [2], flags=2), 400),
        (pack(1, [2], flags=1), 400),
        (pack(1, [2], count=2), 400),
        (pack(1, [2], count=(1 << 32) - 1), 422),
        (pack(1, [2], count=0), 422),
        (pack(1, list(range(301))), 422),
        (pack(1, [2], json=(1 << 32) - 1), 400),
        (pack(1, [2], user_bytes=8, json=(1 << 32) - 8), 400),
        (pack(1, ["ab", "c"], text=2), 400),
        (pack(1, ["ab", "c"]).replace(struct.pack("<III", 0, 2, 3), struct.pack("<III", 0, 4, 3)), 400),
        (pack(1, ["ab", "c"]).replace(struct.pack("<III", 0, 2, 3), struct.pack("<III", 1, 2, 3)), 400),
        (pack(1, ["ab", ""]), 422),
        (pack(1, ["x" * 257]), 422),
        (pack(1, ["a\x00"]), 422),
        (pack(1, ["ab"]).replace(b"ab", b"\xffb"), 422),
        (pack("u\n", [1]), 422),
        (pack(1, [2], b"{"), 400),
        (pack(1, [2], b"[]"), 422),
        (pack(1, [2], b'{"top_k": 0}'), 422),
        (pack(1, [2], b'{"other": 1}'), 422),
        (pack(1, [2], b'{"user_id": 1}'), 422),
        (pack(1, [2], b'{"candidates": [5]}'), 422),
        (pack(1, [2], b'{"overrides": {"a": "b"}}'), 422),
        (pack(1, [2], b'{"context": {"a": "\xff"}}'), 400),
        (pack(1, [2], b'{"timeout_ms": 1001}'), 422),
        (pack(1, [2], b"[" * 3_000), 422),
    ],
)
async def test_what_is_wrong_is_a_problem(body, status):
    response = await RankHouse().post(body, Content_Type=MEDIA, Accept=MEDIA)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert len(response.content) < 2_048


headers = st.builds(
    REQUEST_HEADER.pack,
    st.sampled_from([b"RKRQ", b"RKAN"]),
    st.integers(0, 2),
    st.integers(0, 4),
    *[st.integers(0, 12) | st.integers(0, (1 << 32) - 1)] * 4,
    st.integers(-(1 << 63), (1 << 63) - 1),
)
valid = st.builds(
    pack,
    st.integers(0, 9) | st.sampled_from(["u", "é"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=4) | st.lists(st.sampled_from(["a", "éé"]), min_size=1, max_size=4),
    st.sampled_from([b"", b'{"top_k": 2}']),
)
damage = st.lists(st.tuples(st.integers(0, 80), st.binary(max_size=3), st.integers(0, 3)), max_size=3)


@settings(max_examples=600)
@given(st.binary(max_size=80) | st.builds(bytes.__add__, headers, st.binary(max_size=60)) | valid, damage)
def test_any_bytes_are_a_sound_query_or_a_problem(body, changes):
    for start, new, cut in changes:
        body = body[:start] + new + body[start + cut :]
    try:
        query = decode_binary_call(body, LIMITS, 5.0).query
    except (BodyUnreadableError, RequestInvalidError):
        return
    assert 1 <= len(query.candidates) <= LIMITS.max_candidates
    assert all(each and each.isprintable() for each in (query.user_id, *query.candidates))


async def test_the_documents_own_example_works():
    page = (Path(__file__).parents[3] / "docs" / "binary-body.md").read_text("utf-8")
    example = {}
    exec(page.split("```python")[1].split("```")[0], example)
    response = await RankHouse().post(example["request"](1, [7, 8, 9], top_k=2), Content_Type=MEDIA, Accept=MEDIA)
    places, scores, rest = example["answer"](response.content)
    assert (places.tolist(), scores["click"].tolist(), rest["ranked_by"]) == ([2, 1], [2.5, 1.5], "click")
