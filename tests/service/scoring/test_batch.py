"""Merging and splitting: every row to its owner, nothing cast, nothing transposed."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.manifest import GraphInput
from service.scoring.batch import Scores, ScoringRequest, check_request, divide, join, merge, split
from service.scoring.errors import ScoringFailedError

INPUTS = (
    GraphInput(name="user_numbers", dtype="float32", axis="users", width=2),
    GraphInput(name="user_weight", dtype="float32", axis="users"),
    GraphInput(name="item_categories", dtype="int32", axis="rows", width=3),
    GraphInput(name="item_price", dtype="float32", axis="rows"),
    GraphInput(name="row_user", dtype="int32", axis="rows"),
)


def request(owner, rows, *, want_attention=False):
    """A request whose every value names its owner and, on the rows axis, its row."""
    row = np.arange(rows, dtype=np.float32)
    inputs = {
        "user_numbers": np.full((1, 2), owner, np.float32),
        "user_weight": np.full(1, -owner, np.float32),
        "item_categories": np.stack([np.full(rows, owner), row, row + 1], axis=1).astype(np.int32),
        "item_price": owner * 1000 + row,
    }
    return ScoringRequest(inputs, rows, want_attention)


def changed(**inputs):
    return ScoringRequest({**request(1, 2).inputs, **inputs}, 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=20))
def test_split_undoes_merge_row_by_row(sizes):
    requests = [request(owner, rows, want_attention=wanted) for owner, (rows, wanted) in enumerate(sizes)]
    feeds = merge(requests, INPUTS)
    assert set(feeds) == {each.name for each in INPUTS}
    assert feeds["row_user"].dtype == np.int32
    # The graph's part of the bargain, row by row: look the user up by row_user.
    price = np.array([feeds["item_price"][row] for row in range(len(feeds["row_user"]))])
    owner = np.array([feeds["user_numbers"][user, 0] for user in feeds["row_user"]])
    attention = np.stack([owner, price], axis=1)
    for place, (scores, asked) in enumerate(
        zip(split({"ctr": owner, "attention": attention}, requests), requests, strict=True)
    ):
        assert scores.values["ctr"].tolist() == [place] * asked.rows
        assert ("attention" in scores.values) == asked.want_attention
        if asked.want_attention:
            assert scores.values["attention"][:, 1].tolist() == asked.inputs["item_price"].tolist()


def test_an_answer_does_not_keep_the_batch_alive():
    outputs = {"ctr": np.zeros(30, np.float32)}
    for requests in ([request(1, 10), request(2, 20)], [request(1, 30)]):
        assert all(scores.values["ctr"].base is None for scores in split(outputs, requests))


@pytest.mark.parametrize("entries", [29, 31, 0])
def test_an_output_that_has_not_one_entry_a_row_is_an_error(entries):
    with pytest.raises(ValueError, match=f"output ctr: {entries} entries for 30 rows"):
        split({"ctr": np.zeros(entries, np.float32)}, [request(1, 10), request(2, 20)])


def test_a_fitting_request_passes_and_surplus_inputs_are_left_aside():
    surplus = changed(history=np.zeros((1, 5), np.int32))
    check_request(surplus, INPUTS)
    assert set(merge([surplus], INPUTS)) == {each.name for each in INPUTS}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (changed(user_numbers=np.zeros((2, 2), np.float32)), r"user_numbers: float32 \[1, 2\] is needed, not float32 \[2, 2\]"),
        (changed(user_numbers=np.zeros((1, 2), np.float64)), r"user_numbers: float32 \[1, 2\] is needed, not float64 \[1, 2\]"),
        (changed(user_weight=np.zeros((1, 1), np.float32)), r"user_weight: float32 \[1\] is needed, not float32 \[1, 1\]"),
        (changed(item_categories=np.zeros((3, 2), np.int32)), r"item_categories: int32 \[2, 3\] is needed, not int32 \[3, 2\]"),
        (changed(item_categories=np.zeros((2, 3), np.int64)), r"item_categories: int32 \[2, 3\] is needed, not int64"),
        (changed(item_categories=np.zeros((2, 3), ">i4")), r"item_categories: int32 \[2, 3\] is needed"),
        (changed(item_price=np.zeros(1, np.float32)), r"item_price: float32 \[2\] is needed, not float32 \[1\]"),
        (changed(item_price=np.float32(0)), r"item_price: float32 \[2\] is needed, not float32 \[\]"),
        (ScoringRequest({}, 2), r"user_numbers: missing; float32 \[1, 2\] is needed"),
        (ScoringRequest(request(1, 1).inputs, 0), "at least one row, not 0"),
        (ScoringRequest(request(1, 1).inputs, -1), "at least one row, not -1"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_by_name(broken, message):
    with pytest.raises(ScoringFailedError, match=message):
        check_request(broken, INPUTS)


@given(st.integers(2, 60), st.lists(st.integers(1, 59), max_size=5), st.booleans())
def test_join_undoes_divide_and_the_user_goes_with_every_part(rows, cuts, attention):
    whole = request(3, rows, want_attention=attention)
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    parts = [divide(whole, start, stop) for start, stop in pairwise(edges)]
    for part in parts:
        check_request(part, INPUTS)
        assert part.want_attention is attention
    scores = [Scores({"ctr": part.inputs["item_price"], "attention": part.inputs["item_categories"]}) for part in parts]
    joined = join(scores).values
    assert joined["ctr"].tolist() == whole.inputs["item_price"].tolist()
    assert joined["attention"].tolist() == whole.inputs["item_categories"].tolist()
