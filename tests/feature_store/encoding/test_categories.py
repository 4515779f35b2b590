"""Category ids: missing, unknown and known values, by vocabulary and by hash."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.encoding.categories import (
    FIRST_KNOWN_ID,
    MISSING_ID,
    OOV_ID,
    CategoryColumn,
    HashedIds,
    VocabularyIds,
    fit_category_ids,
)
from feature_store.encoding.values import ValueRefusedError
from feature_store.views import CategoryField, Hashing, Vocabulary

COUNTS = {"a": 3, "b": 5, "c": 3, "d": 1}


def single(*terms):
    return CategoryColumn("town", VocabularyIds(terms), slots=1, multiple=False)


def several(slots, *terms):
    return CategoryColumn("tags", VocabularyIds(terms), slots=slots, multiple=True)


def test_a_vocabulary_is_ordered_by_count_then_text():
    assert VocabularyIds.fit(COUNTS, Vocabulary()).terms == ("b", "a", "c", "d")


@pytest.mark.parametrize(
    ("rule", "terms"),
    [
        (Vocabulary(min_count=3), ("b", "a", "c")),
        (Vocabulary(max_size=2), ("b", "a")),
        (Vocabulary(min_count=9), ()),
    ],
)
def test_rare_and_surplus_values_share_the_unknown_id(rule, terms):
    ids = VocabularyIds.fit(COUNTS, rule)
    assert ids.terms == terms
    assert ids.cardinality == FIRST_KNOWN_ID + len(terms)
    assert ids.id_of("d") == OOV_ID


def test_a_vocabulary_refuses_a_term_that_stands_twice():
    with pytest.raises(ValueError, match="twice"):
        VocabularyIds(["a", "a"])


def test_missing_unknown_and_known_values_get_their_ids():
    assert single("x", "1", "true").encode(["x", 1, True, "new", None, ""])[:, 0].tolist() == [
        2,
        3,
        4,
        OOV_ID,
        MISSING_ID,
        MISSING_ID,
    ]


def test_several_values_fill_slots_in_order_and_surplus_ones_are_cut():
    encoded = several(2, "x", "y", "z").encode([["z", "new", "x"], ["y"], [], None, ["", "x"], ("y", 3)])
    assert encoded.tolist() == [[4, OOV_ID], [3, 0], [0, 0], [0, 0], [2, 0], [3, OOV_ID]]
    assert encoded.dtype == np.int32


def test_surplus_values_are_not_even_looked_at():
    looked_at = []

    class Looked(list):
        def __iter__(self):
            for each in super().__iter__():
                looked_at.append(each)
                yield each

    assert several(2, "7").encode([Looked([7] * 100_000)]).tolist() == [[2, 2]]
    assert len(looked_at) == 2


@pytest.mark.parametrize(
    ("column", "value"),
    [(single("x"), ["x"]), (single("x"), 1.5), (several(2), "x"), (several(2), [None]), (several(2), [[1]])],
)
def test_a_value_of_the_wrong_type_is_named_by_field_and_place(column, value):
    with pytest.raises(ValueRefusedError, match=rf"field '{column.name}', value 1: "):
        column.encode([None, value])


@given(st.text(max_size=30), st.integers(2, 1 << 20), st.text("ab_-", min_size=1, max_size=40))
def test_a_hashed_id_follows_its_formula_and_stays_in_range(text, buckets, field):
    ids = HashedIds(field, buckets)
    person = hashlib.blake2b(field.encode(), digest_size=16).digest()
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=person).digest()
    assert ids.id_of(text) == 1 + int.from_bytes(digest, "little") % buckets
    assert 1 <= ids.id_of(text) < ids.cardinality == buckets + 1


def test_hashed_ids_never_change():
    assert [HashedIds("town", 1_000).id_of(town) for town in ("Bonn", "Köln", "")] == [313, 211, 451]


def test_two_fields_hash_one_value_apart():
    values = [str(value) for value in range(50)]
    assert [HashedIds("a", 1 << 20).id_of(v) for v in values] != [HashedIds("b", 1 << 20).id_of(v) for v in values]


@given(st.lists(st.text(max_size=5)), st.integers(1, 4))
def test_a_hash_needs_no_values_and_a_vocabulary_knows_all_it_was_fitted_on(values, min_count):
    counts = {value: values.count(value) for value in values}
    known = fit_category_ids(CategoryField(name="a", kind="category", encode=Vocabulary(min_count=min_count)), counts)
    hashed = fit_category_ids(CategoryField(name="a", kind="category", encode=Hashing(by="hash", buckets=9)), {})
    assert [known.id_of(value) > OOV_ID for value in values] == [counts[value] >= min_count for value in values]
    assert hashed.cardinality == 10


@pytest.mark.parametrize("ids", [VocabularyIds(["ä", "b"]), HashedIds("tags", 7)])
def test_a_column_survives_json(ids):
    column = CategoryColumn("tags", ids, slots=3, multiple=True)
    again = CategoryColumn.from_json(json.loads(json.dumps(column.to_json())))
    values = [["ä", "b", "c", "d"], [], None]
    assert again.encode(values).tolist() == column.encode(values).tolist()
    assert again.to_json() == column.to_json()


def one_by_one(column, values):
    """The ids as the plain definition gives them, or None where it refuses."""
    out = np.zeros((len(values), column.slots), np.int32)
    for row, value in enumerate(values):
        if column.multiple and isinstance(value, str) and value:
            return None
        texts = ([] if value in (None, "") else value) if column.multiple else [value]
        kept = [text for text in texts if text not in (None, "")][: column.slots]
        for slot, text in enumerate(kept):
            plain = str(text).lower() if isinstance(text, bool) else str(text)
            out[row, slot] = column.ids.id_of(plain)
    return out


TERMS = st.sampled_from(["a", "b", "c", "", "7", 7, True, None])
LISTS = st.none() | st.just("") | st.lists(st.sampled_from(["a", "b", "", "7", 7]), max_size=6)


@pytest.mark.parametrize("ids", [VocabularyIds(["a", "b", "7", "true"]), HashedIds("f", 50)])
@given(singles=st.lists(TERMS, max_size=8), lists=st.lists(LISTS | LISTS.map(lambda each: tuple(each or ())), max_size=8))
def test_many_values_at_once_get_the_ids_that_each_gets_alone(ids, singles, lists):
    for column, values in (
        (CategoryColumn("f", ids, slots=1, multiple=False), singles),
        (CategoryColumn("f", ids, slots=3, multiple=True), lists),
    ):
        assert column.encode(values).tolist() == one_by_one(column, values).tolist()
        texts = [value for value in values if value is None or isinstance(value, str)]
        if not column.multiple:
            assert column.encode(texts).tolist() == one_by_one(column, texts).tolist()
