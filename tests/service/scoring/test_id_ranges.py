"""No id outside its table passes, wherever it stands and whatever it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.encoding.categories import CategoryColumn, HashedIds, VocabularyIds
from feature_store.encoding.encoder import FeatureEncoder, ViewEncoder
from models.manifest import GraphInput
from service.scoring.batch import ScoringRequest
from service.scoring.errors import ScoringFailedError
from service.scoring.id_ranges import IdRanges

SIZES = [4, 7, 7]
"""Two terms and the two reserved ids; six buckets and the reserved one, in two slots."""
HISTORY = 5


def ranges():
    item_id = CategoryColumn("item_id", VocabularyIds(["a", "b"]), slots=1, multiple=False)
    tags = CategoryColumn("tags", HashedIds("tags", 6), slots=2, multiple=True)
    empty = ViewEncoder((), ())
    views = {"user": empty, "context": empty, "item": ViewEncoder((item_id, tags), ()), "candidate": empty}
    inputs = (
        GraphInput(name="item_categories", dtype="int32", axis="rows", width=3),
        GraphInput(name="history", dtype="int32", axis="users", width=HISTORY),
        GraphInput(name="row_user", dtype="int32", axis="rows"),
    )
    return IdRanges.of(FeatureEncoder(views, "item_id", HISTORY), inputs)


def request(items, history=None):
    items = np.array(items, np.int32)
    history = np.zeros((1, HISTORY), np.int32) if history is None else np.array([history], np.int32)
    return ScoringRequest({"item_categories": items, "history": history}, len(items))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 6)), min_size=1),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
)
def test_every_id_that_the_encoder_can_give_passes(items, history):
    ranges().check(request(items, history))


@settings(deadline=None)
@given(
    st.integers(1, 30),
    st.data(),
    st.one_of(st.integers(-(2**31), -1), st.integers(0, 2**31 - 1), st.sampled_from([-1, 2**31 - 1, -(2**31)])),
)
def test_one_id_outside_is_named(rows, data, offset):
    row, slot = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, 2))
    bad = offset if offset < 0 else min(SIZES[slot] + offset, 2**31 - 1)
    items = np.zeros((rows, 3), np.int32)
    items[row, slot] = bad
    with pytest.raises(
        ScoringFailedError, match=rf"item_categories, row {row}, slot {slot}: id {bad} is not in 0..{SIZES[slot] - 1}"
    ):
        ranges().check(request(items))


@pytest.mark.parametrize("bad", [-1, 4, 2**31 - 1])
@pytest.mark.parametrize("slot", range(HISTORY))
def test_the_history_shares_the_items_table(bad, slot):
    history = [0] * HISTORY
    history[slot] = bad
    with pytest.raises(ScoringFailedError, match=f"history, row 0, slot {slot}: id {bad} is not in 0..3"):
        ranges().check(request([[0, 0, 0]], history))
