"""Item tables: a published row serves exactly while the item's features are those it was made from; others are derived once."""

import weakref

import numpy as np
import pytest

from feature_store.encoding.encoder import Block
from feature_store.item_cache import CacheRule, ItemCache
from feature_store.item_rows import EncoderRows, ItemFeatures
from feature_store.item_table import COMPUTE_ROWS, BaseRows, ItemTable
from tests.feature_store.encoders import item_encoder
from tests.feature_store.item_tables import WIDTH, base_rows, derived, table_of

ENCODER = item_encoder()
PUBLISHED = {"a": {"genres": ["x"], "price": 1.0}, "b": {"genres": ["y"], "price": 2.0}}
MARK = 1_000.0


class Compute:
    """Notes how many rows it was asked for, call by call."""

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, block):
        self.calls.append(len(block.categories))
        return derived(block)


def marked(block):
    """Rows that tell that they are the published ones."""
    return derived(block) + np.float32(MARK)


@pytest.fixture
def compute():
    return Compute()


@pytest.fixture
def table(compute):
    return ItemTable(WIDTH, compute, base_rows(ENCODER, PUBLISHED, marked))


@pytest.fixture
def cache():
    return ItemCache(CacheRule(capacity=50, jitter=0.0), clock=lambda: 0.0)


def look(cache, table, values):
    """One request for the items, completed by what the store has of them."""
    lookup = cache.begin(list(values), ENCODER, table)
    found = {item_id: None if each is None else ItemFeatures(each) for item_id, each in values.items()}
    cache.fill(lookup, {item_id: found[item_id] for item_id in lookup.missing})
    return lookup


def is_published(lookup):
    """For each row whether it is the published one; either way it must be right."""
    part, right = lookup.item_part(), derived(lookup.block())
    published = np.all(part == right + np.float32(MARK), axis=1)
    np.testing.assert_array_equal(part[~published], right[~published])
    return published.tolist()


@pytest.mark.parametrize("changed", [{"genres": ["x"], "price": 1.5}, {"genres": ["z"], "price": 1.0}])
def test_a_published_row_serves_while_the_features_are_those_it_was_made_from(cache, table, compute, changed):
    assert is_published(look(cache, table, {"a": PUBLISHED["a"], "b": PUBLISHED["b"]})) == [True, True]
    assert compute.calls == []
    cache.replace({"a": ItemFeatures(changed)}, cache.moment())
    assert is_published(cache.begin(["a", "b"], ENCODER, table)) == [False, True]
    cache.replace({"a": ItemFeatures(PUBLISHED["a"])}, cache.moment())
    assert is_published(cache.begin(["a", "b"], ENCODER, table)) == [True, True]


def test_items_beyond_the_vocabulary_and_unknown_ones_have_rows_of_their_own(cache, table, compute):
    values = {"new": {"genres": ["x"], "price": 3.0}, "a": PUBLISHED["a"], "c": None, "nowhere": None}
    # What is known of neither stands in the published rows, too, for their ids: c's, and that of every unknown item.
    assert is_published(look(cache, table, values)) == [False, True, True, True]
    assert is_published(cache.begin(list(values), ENCODER, table)) == [False, True, True, True]
    assert compute.calls == [1]


def test_an_id_beyond_the_published_rows_has_a_row_of_its_own(cache, compute):
    base = base_rows(ENCODER, PUBLISHED, marked)
    few = BaseRows(base.rows[:3], Block(base.inputs.categories[:3], base.inputs.numbers[:3]), 0)
    assert is_published(look(cache, ItemTable(WIDTH, compute, few), PUBLISHED)) == [True, False]


def test_rows_put_anew_are_derived_anew(table):
    rows = EncoderRows(ENCODER, 2)
    slots = np.array([1])
    rows.encode(slots, ["a"], [PUBLISHED["a"]])
    rows.slot_rows(table).derive(slots, rows.block(slots))
    assert rows.slot_rows(table).take(slots).tolist() == marked(rows.block(slots)).tolist()
    rows.encode(slots, ["a"], [{"price": 7.0}])
    assert rows.slot_rows(table).take(slots) is None


def test_a_row_is_derived_once(cache, compute):
    table = ItemTable(WIDTH, compute)
    values = {f"i{number}": {"price": float(number)} for number in range(20)}
    for _ in range(3):
        look(cache, table, values)
    assert sum(compute.calls) == 20


def test_a_replaced_item_is_derived_before_anybody_asks(cache, table, compute):
    look(cache, table, {"a": PUBLISHED["a"], "b": PUBLISHED["b"]})
    cache.replace({"a": ItemFeatures({"price": 9.0})}, cache.moment())
    assert compute.calls == [1]
    assert is_published(cache.begin(["a"], ENCODER, table)) == [False]
    assert compute.calls == [1]


def test_items_without_room_are_computed_for_the_request_and_not_kept(compute):
    cache = ItemCache(CacheRule(capacity=2))
    table = ItemTable(WIDTH, compute)
    values = {f"i{number}": {"price": float(number)} for number in range(10)}
    for _ in range(2):
        lookup = look(cache, table, values)
        np.testing.assert_array_equal(lookup.item_part(), derived(lookup.block()))
    assert sum(compute.calls) >= 18


def test_a_slots_next_item_never_has_the_last_ones_row(compute):
    cache = ItemCache(CacheRule(capacity=1))
    table = ItemTable(WIDTH, compute)
    for item_id in ("p", "q", "p"):
        lookup = look(cache, table, {item_id: {"price": float(ord(item_id))}})
        np.testing.assert_array_equal(lookup.item_part(), derived(lookup.block()))


def test_rows_given_are_the_callers_own(cache, table):
    look(cache, table, {"a": PUBLISHED["a"], "new": {"price": 5.0}})
    cache.begin(["a", "new"], ENCODER, table).item_part()[:] = 77
    assert is_published(cache.begin(["a", "new"], ENCODER, table)) == [True, False]


def test_the_block_of_a_warm_lookup_is_as_it_was_when_it_began_though_the_item_changed_since(cache, table):
    look(cache, table, {"a": PUBLISHED["a"]})
    before = cache.begin(["a"], ENCODER).block()
    lookup = cache.begin(["a"], ENCODER, table)
    cache.replace({"a": ItemFeatures({"price": 9.0})}, cache.moment())
    np.testing.assert_array_equal(lookup.block().numbers, before.numbers)
    np.testing.assert_array_equal(lookup.block().categories, before.categories)
    assert is_published(lookup) == [True]


def test_promises_beyond_any_number_of_requests_are_kept(cache, table):
    look(cache, table, {"a": PUBLISHED["a"]})
    kept = cache.begin(["a"], ENCODER, table)
    for _ in range(3_000):
        cache.begin(["a"], ENCODER, table)
    cache.replace({"a": ItemFeatures({"price": 9.0})}, cache.moment())
    assert is_published(kept) == [True]


def test_two_models_of_one_encoder_have_rows_of_their_own(cache, table):
    double = ItemTable(WIDTH, lambda block: 2 * derived(block))
    look(cache, table, {"a": PUBLISHED["a"], "new": {"price": 5.0}})
    lookup = look(cache, double, {"a": PUBLISHED["a"], "new": {"price": 5.0}})
    np.testing.assert_array_equal(lookup.item_part(), 2 * derived(lookup.block()))
    assert is_published(cache.begin(["a", "new"], ENCODER, table)) == [True, False]


def test_a_lookup_whose_encoder_was_dropped_meanwhile_still_ends(cache, table):
    lookup = cache.begin(["a", "new"], ENCODER, table)
    cache.retain([])
    cache.fill(lookup, {"a": ItemFeatures(PUBLISHED["a"]), "new": None})
    np.testing.assert_array_equal(lookup.item_part(), derived(lookup.block()))
    assert is_published(cache.begin(["a", "new"], ENCODER, table)) == [True, True]


def test_published_rows_are_shared_and_never_copied(tmp_path, cache, compute):
    base = base_rows(ENCODER, PUBLISHED)
    np.save(tmp_path / "rows.npy", base.rows)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    table = ItemTable(WIDTH, compute, BaseRows(rows, base.inputs, 0))
    lookup = look(cache, table, {"a": PUBLISHED["a"]})
    np.testing.assert_array_equal(lookup.item_part(), derived(lookup.block()))
    source = table._source
    assert np.shares_memory(source.shared, rows)
    assert table._slot_rows._own is None  # no private row was needed, so none has memory


def test_a_table_goes_with_its_model_without_the_garbage_collector(cache):
    table = table_of(ENCODER)
    look(cache, table, {"a": PUBLISHED["a"]})
    gone = weakref.ref(table), weakref.ref(table._slot_rows)
    del table
    assert [each() for each in gone] == [None, None]
    cache.replace({"a": ItemFeatures({"price": 9.0})}, cache.moment())


def test_a_released_table_still_answers(cache, table):
    look(cache, table, {"a": PUBLISHED["a"], "new": {"price": 5.0}})
    table.release()
    assert is_published(cache.begin(["a", "new"], ENCODER, table)) == [True, False]


def test_a_lookup_without_a_table_has_no_part(cache):
    assert look(cache, None, {"a": None}).item_part() is None


def test_a_part_is_not_given_before_the_missing_items_are_filled(cache, table):
    with pytest.raises(RuntimeError, match="fill"):
        cache.begin(["a"], ENCODER, table).item_part()


def test_no_items_have_no_rows(cache, table):
    assert cache.begin([], ENCODER, table).item_part().shape == (0, WIDTH)


def test_many_rows_are_computed_in_bounded_calls(compute):
    table = ItemTable(WIDTH, compute)
    count = 2 * COMPUTE_ROWS + 5
    block = Block(np.arange(3 * count, dtype=np.int32).reshape(count, 3), np.zeros((count, 1), np.float32))
    np.testing.assert_array_equal(table.compute(block), derived(block))
    assert compute.calls == [COMPUTE_ROWS, COMPUTE_ROWS, 5]


@pytest.mark.parametrize("made", [np.zeros((1, 4), np.float32), np.zeros((2, 3), np.float32), np.zeros((1, 3))])
def test_rows_of_another_shape_or_type_are_refused(cache, made):
    with pytest.raises(ValueError, match="item rows"):
        look(cache, ItemTable(WIDTH, lambda block: made), {"a": None})


SOUND = base_rows(ENCODER, PUBLISHED)


@pytest.mark.parametrize(
    ("base", "match"),
    [
        (BaseRows(SOUND.rows[:, :2], SOUND.inputs, 0), "width 3"),
        (BaseRows(SOUND.rows.astype(np.float64), SOUND.inputs, 0), "float32"),
        (BaseRows(SOUND.rows[:0], SOUND.inputs, 0), "at least one"),
        (BaseRows(SOUND.rows[:2], SOUND.inputs, 0), "number"),
        (BaseRows(SOUND.rows, SOUND.inputs, 3), "column 3"),
        (BaseRows(SOUND.rows, Block(SOUND.inputs.categories.astype(np.int64), SOUND.inputs.numbers), 0), "int32"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(base, match):
    with pytest.raises(ValueError, match=match):
        ItemTable(WIDTH, derived, base)


def test_a_table_without_width_is_refused():
    with pytest.raises(ValueError, match="width"):
        ItemTable(0, derived)


@pytest.mark.parametrize("left_out", ["numbers", "categories"])
def test_a_row_serves_whatever_the_features_that_it_was_not_made_from(cache, compute, left_out):
    whole = base_rows(ENCODER, PUBLISHED, marked)
    ids = len(whole.rows)
    empty = {"numbers": np.empty((ids, 0), np.float32), "categories": np.empty((ids, 0), np.int32)}
    kept = {"numbers": whole.inputs.numbers, "categories": whole.inputs.categories, left_out: empty[left_out]}
    table = ItemTable(WIDTH, compute, BaseRows(whole.rows, Block(kept["categories"], kept["numbers"]), whole.key_slot))
    other = {"numbers": {"genres": ["x"], "price": 7.0}, "categories": {"genres": ["z"], "price": 1.0}}[left_out]
    lookup = look(cache, table, {"a": other})
    assert compute.calls == []
    assert (lookup.item_part() >= MARK).any()
