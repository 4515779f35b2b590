"""Records of older and newer views: a field added, removed or retyped costs that field alone, and is told."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.encoding.categories import CategoryColumn, HashedIds
from feature_store.encoding.encoder import FeatureEncoder, ViewEncoder
from feature_store.encoding.numbers import NumberColumn
from feature_store.encoding.values import ValueRefusedError
from feature_store.item_cache import CacheRule, ItemCache
from feature_store.online import OnlineFeatures
from feature_store.records import decode_features, encode_features, feature_record
from feature_store.stored import StoredRecords
from service.errors import RequestInvalidError
from service.ranking.encode import encode_query
from service.ranking.query import RankQuery

QUERY = RankQuery(request_id="r", user_id="u1", candidates=("a", "b"), deadline=0.0)


def view(*key: CategoryColumn) -> ViewEncoder:
    """A category, a list of categories and a number, behind the key columns."""
    prefix = "item_" if key else "user_"
    return ViewEncoder(
        (
            *key,
            CategoryColumn(f"{prefix}town", HashedIds("town", 1_000), slots=1, multiple=False),
            CategoryColumn(f"{prefix}tags", HashedIds("tags", 1_000), slots=2, multiple=True),
        ),
        (NumberColumn(f"{prefix}age", "none", fill=-1.0, shift=0.0, scale=1.0),),
    )


ITEM_KEY = CategoryColumn("item", HashedIds("item", 1_000), slots=1, multiple=False)
EMPTY = ViewEncoder((), ())
ENCODER = FeatureEncoder({"user": view(), "context": EMPTY, "item": view(ITEM_KEY), "candidate": EMPTY}, "item", 3)
SOUND = {"town": "Bonn", "tags": ["x", "y"], "age": 31}
VALUES = st.none() | st.text(max_size=3) | st.integers(0, 9) | st.floats(0, 9) | st.booleans() | st.lists(st.integers(0, 9))


class Store:
    """Gives the values as one user's and as item ``a``'s, through the stored format."""

    def __init__(self, values):
        self.values = values

    async def read(self, user_id, item_ids, timeout_s=None):
        items = {each: self._stored(each, "item_") if each == "a" else None for each in item_ids}
        return StoredRecords(self._stored(user_id, "user_"), None, items)

    def _stored(self, owner, prefix):
        values = {f"{prefix}{name}": value for name, value in self.values.items()}
        return decode_features(encode_features(feature_record(owner, 5.0, values)), owner)


async def encoded(values):
    """Fetched features and the encoded query where the store holds these values."""
    fetched = await OnlineFeatures(Store(values), ItemCache(CacheRule())).fetch("u1", ["a", "b"], ENCODER, 5.0)
    return fetched, encode_query(ENCODER, QUERY, fetched, uses_history=False, attention=False)


def rows(values, prefix):
    """The oracle: the row of a view where every field is encoded alone, and the fields that refuse."""
    encoder, refused, accepted = ENCODER.views["item" if prefix == "item_" else "user"], set(), {}
    for name, value in values.items():
        try:
            encoder.encode_records([{f"{prefix}{name}": value}])
            accepted[f"{prefix}{name}"] = value
        except ValueRefusedError:
            refused.add(f"{prefix}{name}")
    block = encoder.encode_records([{**accepted, "item": "a"}])
    return block.categories[0].tolist(), block.numbers[0].tolist(), refused


@pytest.mark.parametrize(
    ("values", "missing", "refused"),
    [
        (SOUND, (), ()),
        ({**SOUND, "removed": "x"}, (), ()),
        ({"town": "Bonn", "tags": ["x"]}, ("user_age",), ()),
        ({**SOUND, "age": "31"}, (), ("user_age",)),
        ({**SOUND, "town": ["Bonn"]}, (), ("user_town",)),
        ({**SOUND, "town": 1.5}, (), ("user_town",)),
        ({**SOUND, "tags": "x|y"}, (), ("user_tags",)),
        ({"tags": "x|y", "age": []}, ("user_town",), ("user_age", "user_tags")),
    ],
)
async def test_a_change_of_the_views_costs_the_changed_field_alone(values, missing, refused):
    fetched, query = await encoded(values)
    inputs = query.request.inputs
    categories, numbers, _ = rows(values, "user_")
    assert (inputs["user_categories"].tolist(), inputs["user_numbers"].tolist()) == ([categories], [numbers])
    assert (query.missing, query.refused, query.stale) == (missing, refused, ())
    assert query.faults == (("user_value_refused",) if refused else ())
    categories, numbers, _ = rows(values, "item_")
    assert (fetched.items.categories[0].tolist(), fetched.items.numbers[0].tolist()) == (categories, numbers)
    assert fetched.unknown_items == (2 if refused else 1)


@given(values=st.dictionaries(st.sampled_from(["town", "tags", "age", "other"]), VALUES))
async def test_whatever_is_stored_every_field_is_as_if_it_stood_alone(values):
    _, query = await encoded(values)
    inputs = query.request.inputs
    for axis, prefix in (("user", "user_"), ("item", "item_")):
        categories, numbers, refused = rows(values, prefix)
        assert inputs[f"{axis}_categories"][0].tolist() == categories
        assert inputs[f"{axis}_numbers"][0].tolist() == numbers
        if axis == "user":
            assert set(query.refused) == refused


class Fetched:
    """What was fetched of two candidates: their block, and their rows in an item table."""

    user, user_stale, history_items, items_stale = {"user_town": "Bonn"}, (), ["a", "b"], ()
    items = ENCODER.views["item"].encode_records([{"item": "a", "item_age": 1.0}, {"item": "b", "item_age": 2.0}])
    item_part = np.arange(6, dtype=np.float32).reshape(2, 3)


ITEM_INPUTS = {"item_categories", "item_numbers"}
OWN_AGES = {"item_age": [5.0, None]}


@pytest.mark.parametrize(
    ("part", "sent", "item_inputs", "expected"),
    [
        (True, {}, False, {"item_part"}),
        (True, {}, True, {"item_part", *ITEM_INPUTS}),
        (True, OWN_AGES, False, ITEM_INPUTS),
        (True, OWN_AGES, True, ITEM_INPUTS),
        (True, {"other": [1, 2]}, False, {"item_part"}),
        (False, {}, False, ITEM_INPUTS),
    ],
)
def test_the_item_part_stands_in_for_the_items_unless_the_request_has_values_of_its_own(part, sent, item_inputs, expected):
    fetched = Fetched()
    if not part:
        fetched.item_part = None
    query = msgspec.structs.replace(QUERY, candidate_features=sent)
    encoded = encode_query(ENCODER, query, fetched, uses_history=True, attention=False, item_inputs=item_inputs)
    inputs = encoded.request.inputs
    assert {name for name in inputs if name.startswith("item_")} == expected
    assert set(inputs) - expected == {"user_categories", "user_numbers", "history"}
    if "item_part" in expected:
        np.testing.assert_array_equal(inputs["item_part"], Fetched.item_part)
    if "item_numbers" in expected:
        assert inputs["item_numbers"].tolist() == ([[5.0], [-1.0]] if sent else [[1.0], [2.0]])
    assert inputs["history"].tolist() == ENCODER.encode_history([["a", "b"]]).tolist()


@pytest.mark.parametrize("item_part", [None, Fetched.item_part])
def test_a_candidate_value_that_is_refused_is_the_callers_to_mend(item_part):
    fetched = Fetched()
    fetched.item_part = item_part
    query = msgspec.structs.replace(QUERY, candidate_features={"item_age": ["old", 1.0]})
    with pytest.raises(RequestInvalidError) as told:
        encode_query(ENCODER, query, fetched, uses_history=False, attention=False)
    assert [problem.field for problem in told.value.problems] == ["candidate_features"]


async def test_a_user_without_features_is_a_record_without_values():
    _, query = await encoded({})
    categories, numbers, _ = rows({}, "user_")
    assert query.request.inputs["user_categories"].tolist() == [categories]
    assert query.request.inputs["user_numbers"].tolist() == [numbers]
    assert query.missing == ("user_age", "user_tags", "user_town")
