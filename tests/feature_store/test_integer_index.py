"""The index of integer ids does what a dictionary does, for all ids of 64 bits, through any number of removals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.integer_ids import IntegerIds
from feature_store.integer_index import ABSENT, IntegerIndex

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
# Few different keys, so that most steps meet one that is there; some fall on the same place of a small table.
KEYS = st.one_of(st.integers(-3, 12), st.sampled_from([0, 1 << 60, -(1 << 63), (1 << 63) - 1]), INT64)


STEPS = st.tuples(st.sampled_from(["put", "remove"]), KEYS, st.integers(0, 9))


@given(st.lists(STEPS, max_size=60), st.lists(KEYS, max_size=20))
@settings(max_examples=300, deadline=None)
def test_it_finds_what_a_dictionary_finds(steps, asked):
    index, oracle = IntegerIndex(), {}
    for what, key, slot in steps:
        if what == "put":
            index.put(key, slot)
            oracle[key] = slot
        else:
            index.remove(key)
            oracle.pop(key, None)
    keys = np.array([*asked, *oracle], np.int64)
    assert index.find(keys).tolist() == [oracle.get(key, ABSENT) for key in keys.tolist()]
    assert len(index) == len(oracle)


def test_a_full_table_that_always_changes_stays_right_and_finite():
    index, oracle = IntegerIndex(), {}
    for key in range(5_000):
        index.put(key, key % 8)
        oracle[key] = key % 8
        if len(oracle) > 8:
            gone = min(oracle)
            del oracle[gone]
            index.remove(gone)
    keys = np.arange(4_900, 5_010, dtype=np.int64)
    assert index.find(keys).tolist() == [oracle.get(key, ABSENT) for key in keys.tolist()]


@pytest.mark.parametrize("values", [[], [0], [7, -7, (1 << 63) - 1, -(1 << 63)]])
def test_ids_are_a_sequence_of_their_texts(values):
    ids = IntegerIds(np.array(values, np.int64))
    texts = [str(value) for value in values]
    assert list(ids) == texts
    assert len(ids) == len(texts)
    assert [ids[place] for place in range(len(ids))] == texts
    assert ids == texts == tuple(texts) or ids == tuple(texts)
    assert ids[1:] == texts[1:]
    assert ids != [*texts, "1"]
