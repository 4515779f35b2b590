"""The whole encoder: blocks, the history rule, its text form and its fingerprint."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.encoding.categories import CategoryColumn, HashedIds, VocabularyIds
from feature_store.encoding.encoder import FeatureEncoder, ViewEncoder
from feature_store.encoding.numbers import NumberColumn
from feature_store.encoding.values import ValueRefusedError

ITEMS = VocabularyIds(["a", "b", "7"])


def encoder(length=3, shift=0.5):
    item = ViewEncoder(
        (
            CategoryColumn("tags", HashedIds("tags", 5), slots=2, multiple=True),
            CategoryColumn("item", ITEMS, slots=1, multiple=False),
        ),
        (
            NumberColumn("price", "log1p", fill=1.0, shift=shift, scale=2.0),
            NumberColumn("age", "none", fill=0.0, shift=0, scale=1),
        ),
    )
    nothing = ViewEncoder((), ())
    views = {"user": nothing, "context": nothing, "item": item, "candidate": nothing}
    return FeatureEncoder(views, item_key="item", history_length=length)


def test_fields_stand_side_by_side_in_their_order():
    view = encoder().views["item"]
    block = view.encode({"item": ["a", "new"], "tags": [["x"], None], "age": [3, None]}, 2)
    assert block.categories.shape == (2, view.slots) == (2, 3)
    assert block.categories[:, 2].tolist() == [2, 1]
    assert block.categories[1, :2].tolist() == [0, 0]
    assert block.numbers[:, 1].tolist() == [3.0, 0.0]


def test_records_and_columns_encode_alike():
    view = encoder().views["item"]
    records = [{"item": "a", "price": 2.0, "unknown field": 1}, {}, {"tags": ["x", "y", "z"], "age": None}]
    columns = {name: [record.get(name) for record in records] for name in ("item", "price", "tags", "age")}
    of_records, of_columns = view.encode_records(records), view.encode(columns, 3)
    assert of_records.categories.tolist() == of_columns.categories.tolist()
    assert of_records.numbers.tolist() == of_columns.numbers.tolist()


TEXTS = st.sampled_from(["", "a", "b", "7", "new", "true"]) | st.text(max_size=3)
WHOLE = st.integers(-3, 9) | st.sampled_from([10**30, 2**128, -(2**127), 10**400])
FINITE = st.floats(allow_infinity=False) | st.sampled_from([1e101, -1e308, 1e12, -0.0])
REALS = st.floats() | st.sampled_from([-0.0, 5e-324, 1e101, -1e308, 1e12])
VALUES = st.none() | TEXTS | WHOLE | REALS | st.booleans() | st.lists(TEXTS | st.integers(0, 9) | st.floats(0, 1), max_size=4)


@st.composite
def views_of_any_kind(draw):
    """Fields of every kind, with any sound numbers in their fitted state."""
    sound = st.floats(-1e6, 1e6)
    transforms = ["none", "standardize", "min_max", "log1p", "log1p_standardize"]
    numbers = [
        NumberColumn(f"n{place}", transform, fill=draw(sound), shift=draw(sound), scale=draw(st.floats(1e-9, 1e6)))
        for place, transform in enumerate(transforms)
    ]
    slots = draw(st.integers(1, 3))
    categories = [
        CategoryColumn("c0", ITEMS, slots=1, multiple=False),
        CategoryColumn("c1", HashedIds("c1", 1_000), slots=1, multiple=False),
        CategoryColumn("c2", ITEMS, slots=slots, multiple=True),
        CategoryColumn("c3", HashedIds("c3", 1_000), slots=slots, multiple=True),
    ]
    return ViewEncoder(
        tuple(each for each in categories if draw(st.booleans())), tuple(each for each in numbers if draw(st.booleans()))
    )


def outcome(encode):
    """The bytes of a block, or what the error says."""
    try:
        block = encode()
    except ValueRefusedError as error:
        return str(error)
    return [(each.dtype, each.shape, each.tobytes()) for each in (block.categories, block.numbers)]


NAMES = [*(f"c{place}" for place in range(4)), *(f"n{place}" for place in range(5))]
RECORDS = st.one_of(
    st.dictionaries(st.sampled_from([*NAMES, "other"]), VALUES),
    st.fixed_dictionaries({}, optional={name: (TEXTS if name[0] == "c" else FINITE) for name in NAMES}),
)


@given(views_of_any_kind(), RECORDS)
def test_one_record_alone_encodes_bit_by_bit_as_among_many_and_is_refused_alike(view, record):
    assert outcome(lambda: view.encode_one(record)) == outcome(lambda: view.encode_records([record]))


def test_default_rows_are_those_of_records_without_values_and_nobody_can_change_them():
    view = encoder().views["item"]
    for count in (0, 1, 7, 5_000):
        block, expected = view.defaults(count), view.encode_records([{}] * count)
        assert block.categories.tobytes() == expected.categories.tobytes()
        assert block.numbers.tobytes() == expected.numbers.tobytes()
        assert block.numbers.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        view.defaults(2).numbers[0] = 1


def test_replacing_some_fields_leaves_the_block_and_the_others_as_they_were():
    view = encoder().views["item"]
    before = view.encode_records([{"item": "a", "tags": ["x"], "price": 2.0, "age": 1}])
    after = view.replace(before, {"price": [5.0], "item": ["b"], "not a field": [1]})
    whole = view.encode_records([{"item": "b", "tags": ["x"], "price": 5.0, "age": 1}])
    assert after.categories.tolist() == whole.categories.tolist()
    assert after.numbers.tolist() == whole.numbers.tolist()
    assert before.categories[0, 2] == 2


@given(st.lists(st.lists(st.sampled_from(["a", "b", 7, "7", "new", ""]), max_size=9), max_size=5), st.integers(1, 4))
def test_a_history_keeps_its_newest_events_oldest_first_padded_behind(histories, length):
    ids = {"a": 2, "b": 3, "7": 4, "new": 1, "": 1}
    encoded = encoder(length).encode_history(histories)
    for row, history in zip(encoded.tolist(), histories, strict=True):
        kept = [ids[str(item)] for item in history][max(0, len(history) - length) :]
        assert row == kept + [0] * (length - len(kept))


def test_an_encoder_survives_its_text():
    before = encoder()
    after = FeatureEncoder.loads(before.dumps())
    assert after.dumps() == before.dumps()
    assert after.fingerprint == before.fingerprint
    assert after.encode_history([["a", "x"]]).tolist() == before.encode_history([["a", "x"]]).tolist()


@pytest.mark.parametrize("other", [encoder(length=4), encoder(shift=0.25)])
def test_another_encoder_has_another_fingerprint(other):
    assert len(other.fingerprint) == 64
    assert other.fingerprint != encoder().fingerprint


@pytest.mark.parametrize(
    "text", ["{}", "[]", "3", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "views": []}', "{", b"\xff"]
)
def test_text_that_is_no_encoder_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        FeatureEncoder.loads(text)


@pytest.mark.parametrize(
    "path", [("views", "item"), ("views", "item", "numbers", 0, "scale"), ("views", "item", "categories", 0, "ids")]
)
def test_an_encoder_with_a_part_missing_is_refused(path):
    state = json.loads(encoder().dumps())
    place = state
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    with pytest.raises(ValueError, match="broken encoder"):
        FeatureEncoder.loads(json.dumps(state))
