"""Records of older and newer views: a field added, removed or retyped costs that field alone, and is told."""

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

    async def read(self, user_id, item_ids):
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
