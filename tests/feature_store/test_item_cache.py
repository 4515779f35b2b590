"""The item cache gives what the encoder gives for the values it was filled with, in any order of events."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from feature_store.integer_ids import IntegerIds
from feature_store.item_cache import CacheCounts, CacheRule, ItemCache
from feature_store.item_rows import ItemFeatures
from tests.feature_store.encoders import item_encoder
from tests.feature_store.item_tables import based_table, derived, table_of

ENCODER = item_encoder()
OTHER = item_encoder(items=("d", "c"), buckets=7)
TTL, UNKNOWN_TTL = 100.0, 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def price(value):
    return {"genres": ["x", value], "price": float(value)}


def expected(encoder, ids, values):
    """The slow reference: one record at a time, through the encoder's own door."""
    blocks = [
        encoder.views["item"].encode_records([{**(each or {}), "item": item_id}])
        for item_id, each in zip(ids, values, strict=True)
    ]
    categories = [block.categories for block in blocks] or [np.zeros((0, encoder.views["item"].slots), np.int32)]
    numbers = [block.numbers for block in blocks] or [np.zeros((0, 1), np.float32)]
    return np.concatenate(categories), np.concatenate(numbers)


def assert_rows(lookup, encoder, ids, values):
    categories, numbers = expected(encoder, ids, values)
    block = lookup.block()
    np.testing.assert_array_equal(block.categories, categories)
    np.testing.assert_array_equal(block.numbers, numbers)
    assert (block.categories.dtype, block.numbers.dtype) == (np.int32, np.float32)


def cache_of(capacity=100, jitter=0.0, draw=lambda: 0.0):
    clock = Clock()
    rule = CacheRule(capacity=capacity, ttl_s=TTL, unknown_ttl_s=UNKNOWN_TTL, jitter=jitter)
    return ItemCache(rule, clock=clock, draw=draw), clock


def usable(found):
    """Values that never expire."""
    return {item_id: None if values is None else ItemFeatures(values) for item_id, values in found.items()}


def fetch(cache, ids, found, encoder=ENCODER):
    lookup = cache.begin(ids, encoder)
    cache.fill(lookup, usable({item_id: found[item_id] for item_id in lookup.missing if item_id in found}))
    return lookup


def test_a_first_request_misses_every_item_once_and_a_second_none():
    cache, _ = cache_of()
    ids = ["b", "a", "b", "c"]
    values = {"a": price(1), "b": price(2), "c": None}
    first = cache.begin(ids, ENCODER)
    assert first.missing == ["b", "a", "c"]
    cache.fill(first, usable(values))
    second = cache.begin(ids, ENCODER)
    assert second.missing == []
    for lookup in (first, second):
        assert_rows(lookup, ENCODER, ids, [values[item_id] for item_id in ids])
        assert (lookup.unknown_count, lookup.stale_count) == (1, 0)


def test_no_items_need_no_store():
    cache, _ = cache_of()
    lookup = cache.begin([], ENCODER)
    assert (lookup.missing, lookup.block().categories.shape, lookup.block().numbers.shape) == ([], (0, 3), (0, 1))


def test_rows_are_not_given_before_the_missing_items_are_filled():
    cache, _ = cache_of()
    with pytest.raises(RuntimeError, match="fill"):
        cache.begin(["a"], ENCODER).block()


def test_known_items_expire_after_their_time_and_unknown_ones_sooner():
    cache, clock = cache_of()
    fetch(cache, ["a", "b"], {"a": price(1), "b": None})
    clock.now = UNKNOWN_TTL
    assert cache.begin(["a", "b"], ENCODER).missing == ["b"]
    clock.now = TTL - 0.001
    assert cache.begin(["a"], ENCODER).missing == []
    clock.now = TTL
    assert cache.begin(["a"], ENCODER).missing == ["a"]


def test_jitter_shortens_the_time_by_its_share():
    cache, clock = cache_of(jitter=0.2, draw=lambda: 1.0)
    fetch(cache, ["a"], {"a": price(1)})
    clock.now = 0.8 * TTL - 0.001
    assert cache.begin(["a"], ENCODER).missing == []
    clock.now = 0.8 * TTL
    assert cache.begin(["a"], ENCODER).missing == ["a"]


def test_without_the_store_expired_rows_stand_in_and_the_rest_are_defaults_and_neither_is_kept():
    cache, clock = cache_of()
    fetch(cache, ["a"], {"a": price(1)})
    clock.now = TTL
    lookup = cache.begin(["a", "b"], ENCODER)
    cache.fill_defaults(lookup)
    assert_rows(lookup, ENCODER, ["a", "b"], [price(1), None])
    assert (lookup.unknown_count, lookup.stale_count) == (1, 1)
    assert cache.begin(["a", "b"], ENCODER).missing == ["a", "b"]


def test_an_expired_row_that_is_evicted_during_the_wait_still_stands_in():
    cache, clock = cache_of(capacity=1)
    fetch(cache, ["a"], {"a": price(1)})
    clock.now = TTL
    lookup = cache.begin(["a"], ENCODER)
    fetch(cache, ["b"], {"b": price(2)})
    cache.fill_defaults(lookup)
    assert_rows(lookup, ENCODER, ["a"], [price(1)])


def test_a_fresh_row_that_is_evicted_during_the_wait_stays_in_the_answer():
    cache, _ = cache_of(capacity=2)
    fetch(cache, ["a", "b"], {"a": price(1), "b": price(2)})
    lookup = cache.begin(["a", "c", "b"], ENCODER)
    fetch(cache, ["d", "e", "f"], {"d": price(4), "e": price(5), "f": price(6)})
    cache.fill(lookup, usable({"c": price(3)}))
    assert_rows(lookup, ENCODER, ["a", "c", "b"], [price(1), price(3), price(2)])


def test_more_candidates_than_room_are_still_all_right():
    cache, _ = cache_of(capacity=3)
    ids = [f"i{number}" for number in range(20)]
    values = {item_id: price(number) for number, item_id in enumerate(ids)}
    for _ in range(3):
        lookup = fetch(cache, ids, values)
        assert_rows(lookup, ENCODER, ids, list(values.values()))
    assert cache.counts.held == 3


def test_an_item_that_its_own_batch_pushes_out_touches_no_other_row():
    cache, clock = cache_of(capacity=2)
    values = {"x": None, "e": price(1), "n1": price(2), "n2": price(3)}
    fetch(cache, ["x", "e"], values)
    cache.begin(["e"], ENCODER)
    clock.now = TTL
    fetch(cache, ["e", "n1", "n2"], values)
    lookup = cache.begin(["e", "n2"], ENCODER)
    assert lookup.missing == []
    assert_rows(lookup, ENCODER, ["e", "n2"], [price(1), price(3)])


def test_items_in_use_outlive_items_seen_once():
    cache, _ = cache_of(capacity=4)
    popular = ["a", "b"]
    fetch(cache, popular, {"a": price(1), "b": price(2)})
    for number in range(10):
        assert cache.begin(popular, ENCODER).missing == []
        fetch(cache, [f"once{number}"], {f"once{number}": None})


def test_a_newly_loaded_models_encoder_encodes_what_is_held_without_the_store():
    cache, _ = cache_of()
    ids, values = ["a", "d"], [price(1), None]
    fetch(cache, ids, dict(zip(ids, values, strict=True)))
    lookup = cache.begin(ids, OTHER)
    assert lookup.missing == []
    assert_rows(lookup, OTHER, ids, values)
    assert lookup.unknown_count == 1


def test_a_refreshed_item_is_refreshed_for_every_encoder():
    cache, clock = cache_of()
    for encoder in (ENCODER, OTHER):
        fetch(cache, ["a"], {"a": price(1)}, encoder)
    clock.now = TTL
    fetch(cache, ["a"], {"a": price(9)}, ENCODER)
    assert_rows(cache.begin(["a"], OTHER), OTHER, ["a"], [price(9)])


def test_encoders_that_are_not_retained_are_forgotten_even_by_lookups_under_way():
    cache, _ = cache_of()
    lookup = cache.begin(["a"], OTHER)
    fetch(cache, ["b"], {"b": price(2)})
    cache.retain([ENCODER.fingerprint])
    cache.fill(lookup, usable({"a": price(1)}))
    assert_rows(lookup, OTHER, ["a"], [price(1)])
    assert cache.fingerprints == {ENCODER.fingerprint}
    assert_rows(cache.begin(["a", "b"], OTHER), OTHER, ["a", "b"], [price(1), price(2)])


def test_an_item_whose_values_do_not_fit_its_fields_costs_its_neighbours_nothing():
    cache, _ = cache_of()
    ids = ["a", "b", "c"]
    found = {"a": price(1), "b": {"price": "free"}, "c": price(3)}
    for lookup in (fetch(cache, ids, found), cache.begin(ids, ENCODER), cache.begin(ids, OTHER)):
        assert_rows(lookup, lookup.encoder, ids, [price(1), None, price(3)])
        assert lookup.unknown_count == 1


def test_the_key_names_the_item_whatever_its_stored_values_say():
    cache, _ = cache_of()
    lookup = fetch(cache, ["a"], {"a": {**price(1), "item": "b"}})
    assert_rows(lookup, ENCODER, ["a"], [price(1)])


def test_the_rows_given_are_the_callers_own():
    cache, _ = cache_of()
    fetch(cache, ["a"], {"a": price(1)})
    cache.begin(["a"], ENCODER).block().categories[:] = 77
    assert_rows(cache.begin(["a"], ENCODER), ENCODER, ["a"], [price(1)])


def test_hits_misses_and_evictions_are_counted_in_rows():
    cache, _ = cache_of(capacity=2)
    fetch(cache, ["a", "b", "a"], {"a": price(1), "b": price(2)})
    fetch(cache, ["a", "a", "c"], {"c": price(3)})
    fetch(cache, ["x"], {"x": None})
    assert cache.counts == CacheCounts(hits=2, misses=5, evictions=1, held=2, unknown=1, refreshed=0)


def test_a_cache_without_room_is_refused():
    with pytest.raises(ValueError, match="capacity"):
        cache_of(capacity=0)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_for_unknown_items_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="unknown_share"):
        CacheRule(unknown_share=share)


def test_invented_ids_push_no_real_item_out():
    cache, _ = cache_of(capacity=100)
    real = [f"r{number}" for number in range(100)]
    fetch(cache, real, {item_id: price(1) for item_id in real})
    for start in range(0, 1_000, 50):
        invented = [f"x{number}" for number in range(start, start + 50)]
        fetch(cache, invented, dict.fromkeys(invented))
    assert cache.begin(real, ENCODER).missing == []


def test_unknown_items_hold_a_tenth_of_the_room_and_the_oldest_leave_first():
    cache, _ = cache_of(capacity=100)
    ids = [f"x{number}" for number in range(25)]
    fetch(cache, ids[:15], dict.fromkeys(ids))
    cache.keep({"x5": None}, cache.moment())  # seen last, so it outlives those behind it
    fetch(cache, ids[15:20], dict.fromkeys(ids))
    assert cache.counts.unknown == 10
    assert cache.begin(ids[:20], ENCODER).missing == [*ids[:5], *ids[6:11]]


def test_an_item_that_appears_or_goes_moves_between_the_kinds():
    cache, clock = cache_of(capacity=10)
    for values in (None, price(1), None, price(2)):
        lookup = fetch(cache, ["a"], {"a": values})
        assert_rows(lookup, ENCODER, ["a"], [values])
        assert (cache.counts.held, cache.counts.unknown) == ((0, 1) if values is None else (1, 0))
        clock.now += TTL


def test_a_read_that_began_earlier_never_undoes_one_that_began_later():
    cache, _ = cache_of()
    early, late = cache.begin(["a"], ENCODER), cache.begin(["a"], ENCODER)
    cache.fill(late, usable({"a": price(2)}))
    cache.fill(early, usable({"a": price(1)}))
    assert_rows(cache.begin(["a"], ENCODER), ENCODER, ["a"], [price(2)])
    assert_rows(early, ENCODER, ["a"], [price(1)])


def test_of_changed_items_those_held_are_named_and_go_on_being_served_and_absent_ones_are_forgotten():
    cache, _ = cache_of()
    fetch(cache, ["a", "x"], {"a": price(1), "x": None})
    assert cache.outdated(["a", "x", "never"]) == ["a"]
    assert cache.begin(["a", "x"], ENCODER).missing == ["x"]


def test_a_read_under_way_when_its_item_changes_is_answered_but_not_kept():
    cache, _ = cache_of()
    lookup = cache.begin(["a", "b"], ENCODER)
    cache.outdated(["a"])
    cache.fill(lookup, usable({"a": price(1), "b": None}))
    assert_rows(lookup, ENCODER, ["a", "b"], [price(1), None])
    assert cache.begin(["a"], ENCODER).missing == ["a"]


def test_replaced_items_serve_every_encoder_for_a_whole_time_to_live():
    cache, clock = cache_of()
    for encoder in (ENCODER, OTHER):
        fetch(cache, ["a", "b"], {"a": price(1), "b": price(2)}, encoder)
    clock.now = TTL - 1
    cache.replace(usable({"a": price(9), "b": None, "c": price(3)}), cache.moment())
    assert cache.counts.refreshed == 2
    clock.now = TTL + UNKNOWN_TTL / 2
    for encoder in (ENCODER, OTHER):
        lookup = cache.begin(["a", "b", "c"], encoder)
        assert lookup.missing == ["c"]
        cache.fill_defaults(lookup)
        assert_rows(lookup, encoder, ["a", "b", "c"], [price(9), None, None])


def test_every_slot_is_named_once_when_everything_is_outdated():
    cache, _ = cache_of(capacity=40)
    values = {f"i{number}": price(number) for number in range(30)} | {"x": None}
    fetch(cache, list(values), values)
    steps = [cache.outdated_between(start, start + 7) for start in range(0, cache.slot_count, 7)]
    assert sorted(item_id for step in steps for item_id in step) == sorted(set(values) - {"x"})
    assert cache.begin(["x"], ENCODER).missing == ["x"]


def test_a_row_is_fresh_no_longer_than_its_values_are():
    cache, clock = cache_of()
    cache.fill(
        cache.begin(["a", "b", "c"], ENCODER),
        {"a": ItemFeatures(price(1), (), 30.0), "b": ItemFeatures(price(2), (), 10 * TTL), "c": ItemFeatures(price(3))},
    )
    clock.now = 29.9
    assert cache.begin(["a", "b", "c"], ENCODER).missing == []
    clock.now = 30.0
    assert cache.begin(["a", "b", "c"], ENCODER).missing == ["a"]
    clock.now = TTL
    assert cache.begin(["b", "c"], ENCODER).missing == ["b", "c"]


def test_jitter_never_makes_a_row_outlive_its_values():
    cache, clock = cache_of(jitter=0.5, draw=lambda: 0.0)
    cache.fill(cache.begin(["a"], ENCODER), {"a": ItemFeatures(price(1), (), 30.0)})
    clock.now = 30.0
    assert cache.begin(["a"], ENCODER).missing == ["a"]


def test_expired_fields_are_told_by_every_lookup_whose_rows_were_made_without_them():
    cache, clock = cache_of()
    first = cache.begin(["a", "b", "c", "new"], ENCODER)
    found = {"a": ItemFeatures({}, ("genres", "price")), "b": ItemFeatures({}, ("price", "stock")), "c": ItemFeatures(price(3))}
    cache.fill(first, {**found, "new": None})
    assert first.stale_fields == ("genres", "price", "stock")
    assert cache.begin(["b", "c", "new", "b"], OTHER).stale_fields == ("price", "stock")
    assert cache.begin(["c", "new"], ENCODER).stale_fields == ()
    cache.replace({"a": ItemFeatures(price(1))}, cache.moment())
    assert cache.begin(["a"], ENCODER).stale_fields == ()
    clock.now = TTL
    lookup = cache.begin(["a", "b"], ENCODER)
    cache.fill_defaults(lookup)
    assert lookup.stale_fields == ("price", "stock")  # the outlived row of b stands in


def test_a_slots_next_item_inherits_no_expired_fields():
    cache, _ = cache_of(capacity=1)
    cache.fill(cache.begin(["a"], ENCODER), {"a": ItemFeatures({}, ("price",))})
    fetch(cache, ["b"], {"b": price(2)})
    assert cache.begin(["b"], ENCODER).stale_fields == ()
    assert cache.begin(["a"], ENCODER).stale_fields == ()


class CacheMachine(RuleBasedStateMachine):
    """Requests that overlap, time that passes, a store that changes or is away; the model is a plain dict."""

    ids = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), max_size=8)
    encoders = st.sampled_from([ENCODER, OTHER])

    def __init__(self) -> None:
        super().__init__()
        self.cache, self.clock = cache_of(capacity=4)
        self.store = {}
        self.filled = {}
        self.read_at = {}
        self.changed_at = 0
        self.open = []
        self.tables = {"own": {}, "base": {}, "none": {}}
        for encoder in (ENCODER, OTHER):
            self.tables["own"][encoder.fingerprint] = table_of(encoder)
            self.tables["base"][encoder.fingerprint] = based_table(encoder, {"a": price(1), "b": price(2), "c": price(3)})

    @rule(
        item_id=st.sampled_from("abcdef"),
        value=st.none()
        | st.builds(
            ItemFeatures,
            (st.integers(1, 3) | st.integers(0, 99)).map(price),
            st.sampled_from([(), ("old",), ("older", "old")]),
            st.sampled_from([None, 0.5, TTL / 4, 2 * TTL]),
        ),
    )
    def the_store_changes(self, item_id, value):
        self.store[item_id] = value

    @rule(seconds=st.sampled_from([1.0, UNKNOWN_TTL, TTL / 2, TTL]))
    def time_passes(self, seconds):
        self.clock.now += seconds

    @rule(ids=ids, encoder=encoders, table=st.sampled_from(["own", "base", "none"]))
    def a_request_begins(self, ids, encoder, table):
        lookup = self.cache.begin(ids, encoder, self.tables[table].get(encoder.fingerprint))
        held_before = dict(self.filled)
        for item_id in set(ids) - set(lookup.missing):
            features, filled_at = self.filled[item_id]
            assert self.clock.now < filled_at + self.lifetime(features)
        assert lookup.missing == list(dict.fromkeys(item_id for item_id in ids if item_id in lookup.missing))
        self.open.append((lookup, ids, held_before))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), answered=st.sampled_from(["all", "some", "none"]))
    def a_request_ends(self, data, answered):
        lookup, ids, held_before = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        known = {item_id: self.store.get(item_id) for item_id in lookup.missing}
        if answered == "some":
            known = {item_id: values for item_id, values in known.items() if data.draw(st.booleans())}
        found = {} if answered == "none" else known
        stale = {item_id for item_id in lookup.missing if lookup.has_stale(item_id) and item_id not in found}
        held = self.held()
        self.cache.fill(lookup, found)
        self.kept(found, lookup.moment, held)
        given = [self.value_given(item_id, found, lookup, stale, held_before) for item_id in ids]
        assert_rows(lookup, lookup.encoder, ids, [features and features.values for features in given])
        if lookup.table is not None:
            np.testing.assert_array_equal(lookup.item_part(), derived(lookup.block()))
        assert lookup.stale_fields == tuple(sorted({name for features in given if features for name in features.stale}))
        assert lookup.unknown_count == sum(values is None for values in given)
        assert lookup.stale_count == sum(item_id in stale for item_id in ids)

    @staticmethod
    def lifetime(features):
        if features is None:
            return UNKNOWN_TTL
        return TTL if features.expires_in_s is None else min(TTL, features.expires_in_s)

    def held(self):
        """Which items have a slot, expired or not; looking changes nothing but the counts and the second chances."""
        lookup = self.cache.begin(list("abcdef"), ENCODER)
        return set("abcdef") - {item_id for item_id in lookup.missing if not lookup.has_stale(item_id)}

    def kept(self, found, moment, held):
        for item_id, values in found.items():
            if moment >= (self.read_at[item_id] if item_id in held else self.changed_at):
                self.filled[item_id] = (values, self.clock.now)
                self.read_at[item_id] = moment

    @rule(ids=ids, data=st.data())
    def items_change(self, ids, data):
        """As the refresher does it: told, read, and replaced."""
        before = self.held()
        outdated = self.cache.outdated(ids)
        self.changed_at = self.cache.moment() - 1
        assert outdated == [item_id for item_id in ids if item_id in before and self.filled[item_id][0] is not None]
        assert self.held() == before - (set(ids) - set(outdated))
        moment = self.cache.moment()
        found = {item_id: self.store.get(item_id) for item_id in outdated if data.draw(st.booleans())}
        self.cache.replace(found, moment)
        self.kept(found, moment, before)

    def value_given(self, item_id, found, lookup, stale, held_before):
        if item_id in found:
            return found[item_id]
        if item_id in lookup.missing and item_id not in stale:
            return None
        return held_before[item_id][0]

    @rule(encoder=encoders)
    def a_model_is_unloaded(self, encoder):
        self.cache.retain([encoder.fingerprint])

    @invariant()
    def it_never_holds_more_than_its_capacity(self):
        assert self.cache.counts.held <= 4
        assert self.cache.counts.unknown <= 1


CacheMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrderOfEvents = CacheMachine.TestCase


@settings(max_examples=30, deadline=None)
@given(ids=st.lists(st.integers(0, 400).map(str), max_size=600), capacity=st.integers(1, 500))
def test_a_cache_with_room_for_all_misses_nothing_twice(ids, capacity):
    cache, _ = cache_of(capacity=capacity)
    values = {item_id: price(int(item_id)) if int(item_id) % 3 else None for item_id in ids}
    fetch(cache, ids, values)
    again = cache.begin(ids, ENCODER)
    unknown = sum(each is None for each in values.values())
    lost = max(0, len(values) - unknown - capacity) + max(0, unknown - max(1, capacity // 10))
    assert len(again.missing) == lost


def test_numbers_stand_for_the_same_ids_as_their_texts():
    cache, _ = cache_of()
    fetch(cache, ["3", "5"], {"3": price(1), "5": None})
    ids, numbers = ["5", "4", "3", "3"], np.array([5, 4, 3, 3])
    lookup = cache.begin(IntegerIds(numbers), ENCODER)
    assert lookup.missing == ["4"]
    cache.fill_defaults(lookup)
    assert_rows(lookup, ENCODER, ids, [None, None, price(1), price(1)])
