"""Whole lists of ids beside the rules for one id."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from feature_store.integer_ids import IntegerIds
from service.api.schemas import Id
from service.api.wire_ids import id_texts, listed_ids

one_id = TypeAdapter(Id)
integers = st.integers(0, 99) | st.sampled_from(
    [10**17, 10**18 - 1, 10**18, (1 << 63) - 1, 1 << 63, -1, -(1 << 63), -(1 << 63) - 1]
)
texts = st.text("aé\N{SNOWMAN}\u200b\n\x7f ", max_size=2) | st.sampled_from(["x" * 256, "x" * 257, "é" * 128, "é" * 129])
lists = st.lists(integers, max_size=6) | st.lists(texts, max_size=6) | st.lists(integers | texts, max_size=4)


def right(ids):
    try:
        for each in ids:
            one_id.validate_python(each)
    except ValidationError:
        return False
    return len({type(each) for each in ids}) == 1


def spaced(ids, gaps):
    """The list as JSON with its own spaces around every part."""
    parts = [gap + json.dumps(each) for each, gap in zip(ids, gaps, strict=False)]
    return ("[" + ",".join(parts) + gaps[-1] + "]").encode()


gaps_of = st.lists(st.sampled_from(["", "", " ", "  ", "\n"]), min_size=7, max_size=7)


@given(lists, gaps_of)
def test_a_list_is_read_as_its_ids_are_one_by_one(ids, gaps):
    found = listed_ids(spaced(ids, gaps))
    assert found == (tuple(map(str, ids)) if right(ids) else None)
    assert isinstance(found, IntegerIds) == (right(ids) and isinstance(ids[0], int))


@given(lists)
def test_decoded_ids_are_judged_the_same(ids):
    assert id_texts(ids) == (tuple(map(str, ids)) if right(ids) or not ids else None)


@pytest.mark.parametrize(
    "array", [b"[1,2, 3]", b"[ 1, 2,3]", b"[1 ,2, 3]", b"[1,  2,3]", b"[1, 2, 3 ]", b"[1,2,3]", b"[1, 2, 3]"]
)
def test_spaces_stand_wherever_json_lets_them(array):
    assert listed_ids(array) == IntegerIds(np.array([1, 2, 3]))


def test_a_truth_value_and_a_float_are_no_ids():
    assert id_texts([True]) is id_texts([1.0]) is id_texts([1, True]) is None
