from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import payloads
from loadtest.errors import IdsUnreadableError, OptionRefusedError
from loadtest.options import PayloadRecipe
from loadtest.payloads import draw_requests, unknown_ids, write_payloads

USERS = list(range(100, 200))
ITEMS = [f"item-{number}" for number in range(500)]
RECIPE = PayloadRecipe(
    count=200,
    candidates_min=5,
    candidates_max=20,
    top_k=None,
    seed=7,
    user_skew=1.0,
    unknown_users=0.0,
    unknown_items=0.0,
    extra_fields={},
)


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path):
    first = write_payloads(tmp_path / "a", USERS, ITEMS, RECIPE)
    again = write_payloads(tmp_path / "b", USERS, ITEMS, RECIPE)
    other = write_payloads(tmp_path / "c", USERS, ITEMS, replace(RECIPE, seed=8))
    assert first.path.read_bytes() == again.path.read_bytes()
    assert first.facts == again.facts
    assert other.facts.sha256 != first.facts.sha256


def test_the_file_holds_one_request_a_line_and_the_facts_describe_it(tmp_path):
    recipe = replace(RECIPE, top_k=3, extra_fields={"context": {"device": "\u2028é\n"}})
    written = write_payloads(tmp_path / "p.jsonl", USERS, ITEMS, recipe)
    lines = written.path.read_bytes().split(b"\n")
    requests = [json.loads(line) for line in lines[:-1]]
    assert lines[-1] == b""
    assert len(requests) == 200
    assert requests[0] == json.loads(written.first_body)
    assert all(request["top_k"] == 3 and request["context"] == {"device": "\u2028é\n"} for request in requests)
    assert [len(request["candidates"]) for request in requests] == written.candidate_counts.tolist()
    assert written.facts.distinct_users == len({request["user_id"] for request in requests})


@given(seed=st.integers(0, 2**63 - 1), least=st.integers(1, 30), more=st.integers(0, 10), skew=st.floats(0, 5))
def test_candidates_are_known_distinct_and_as_many_as_asked(seed, least, more, skew):
    recipe = replace(RECIPE, count=5, seed=seed, candidates_min=least, candidates_max=least + more, user_skew=skew)
    for request in draw_requests(USERS, ITEMS[:40], recipe):
        candidates = request["candidates"]
        assert least <= len(candidates) <= least + more
        assert len(set(candidates)) == len(candidates)
        assert set(candidates) <= set(ITEMS[:40])
        assert request["user_id"] in USERS


def test_unknown_ids_are_in_no_table_and_never_twice_in_a_request():
    recipe = replace(RECIPE, unknown_users=1.0, unknown_items=0.5)
    requests = list(draw_requests(USERS, ITEMS, recipe))
    candidates = [candidate for request in requests for candidate in request["candidates"]]
    unknown = [candidate for candidate in candidates if candidate not in ITEMS]
    assert not {request["user_id"] for request in requests} & set(USERS)
    assert 0.4 < len(unknown) / len(candidates) < 0.6
    assert len(set(unknown)) == len(unknown)


@pytest.mark.parametrize("known", [[1, 2, 7], [2**63 - 1, 1], [-5], ["unknown-0", "unknown-2", "b"]])
def test_unknown_ids_have_the_type_of_the_known_ones_and_fit_64_bits(known):
    drawn = list(islice(unknown_ids(known), 4))
    assert all(type(new) is type(known[0]) and new not in known for new in drawn)
    assert all(isinstance(new, str) or -(2**63) <= new < 2**63 for new in drawn)
    assert len(set(drawn)) == 4


def test_skew_decides_how_often_the_favourite_user_comes():
    def favourite(skew: float) -> int:
        requests = draw_requests(USERS, ITEMS, replace(RECIPE, count=2000, user_skew=skew, candidates_max=5))
        return Counter(request["user_id"] for request in requests).most_common(1)[0][1]

    # Of 100 users the first has 1/H(100) = 19 % by Zipf's law, 1 % when all are alike.
    assert 300 < favourite(1.0) < 460
    assert favourite(0.0) < 60


def test_fewer_items_than_candidates_is_refused():
    with pytest.raises(IdsUnreadableError, match="has 19 distinct ids, up to 20 candidates"):
        list(draw_requests(USERS, ITEMS[:19], RECIPE))


def test_bodies_beyond_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(payloads, "MAX_PAYLOAD_BYTES", 1000)
    with pytest.raises(OptionRefusedError, match="lower --payloads or --candidates"):
        write_payloads(tmp_path / "p", USERS, ITEMS, RECIPE)
