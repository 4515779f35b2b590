"""TTLs at read: a value is used up to its age limit and not a moment longer, whatever the clocks do."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.errors import StoreUnavailableError
from feature_store.freshness import NEVER_EXPIRES, FreshnessRule, ItemFreshness, fresh_values
from feature_store.item_cache import CacheRule, ItemCache
from feature_store.online import OnlineFeatures
from feature_store.records import feature_record, history_record
from feature_store.stored import StoredRecords
from feature_store.views import FeatureViews
from tests.feature_store.encoders import item_encoder
from tests.feature_store.shop_tables import shop_views

ENCODER = item_encoder()
WRITTEN = 1_000.0
NAMES = ("a", "b", "c")
TTL = st.none() | st.floats(0.001, 1e6)


def record(values, written_at=WRITTEN):
    return feature_record("u1", 5.0, values, written_at=written_at)


def views_with_ttls() -> FeatureViews:
    """A day for users but an hour for the town; items for ever but a minute for the price."""
    return shop_views(
        user={
            "key": "user_id",
            "ttl_s": 86_400,
            "fields": [{"name": "age", "kind": "number"}, {"name": "country", "kind": "category", "ttl_s": 3_600}],
        },
        item={
            "key": "item_id",
            "fields": [{"name": "item_id", "kind": "category"}, {"name": "price", "kind": "number", "ttl_s": 60}],
        },
    )


def test_a_fields_own_ttl_wins_over_its_entitys_which_holds_for_fields_of_other_views_too():
    rule = FreshnessRule.of(views_with_ttls().user)
    assert {name: rule.ttl_of(name) for name in ("age", "country", "removed")} == {
        "age": 86_400,
        "country": 3_600,
        "removed": 86_400,
    }
    assert FreshnessRule.of(views_with_ttls().item).ttl_of("item_id") is None


@given(
    values=st.dictionaries(st.sampled_from(NAMES), st.none() | st.integers(0, 9)),
    ttls=st.dictionaries(st.sampled_from(NAMES), TTL),
    default=TTL,
    age=st.floats(-1e6, 2e6),
)
def test_every_value_is_good_or_stale_by_its_own_ttl(values, ttls, default, age):
    now = WRITTEN + age
    fresh = fresh_values(record(values), FreshnessRule(ttls, default), now)
    limits = {name: math.inf if (ttl := ttls.get(name, default)) is None else ttl for name in values}
    expired = [name for name in values if values[name] is not None and now - WRITTEN > limits[name]]
    assert fresh.stale == tuple(sorted(expired))
    assert fresh.values == {name: value for name, value in values.items() if name not in expired}
    assert fresh.age_s == max(0.0, now - WRITTEN)
    left = [limits[name] - fresh.age_s for name, value in fresh.values.items() if value is not None]
    left = [each for each in left if each < math.inf]
    assert fresh.expires_in_s == (min(left) if left else None)


def test_a_value_is_good_up_to_its_ttl_and_expires_when_it_was_said_to():
    rule = FreshnessRule(default_ttl_s=60.0)
    assert fresh_values(record({"a": 1}), rule, WRITTEN + 60.0).stale == ()
    assert fresh_values(record({"a": 1}), rule, math.nextafter(WRITTEN + 60.0, math.inf)).stale == ("a",)
    assert fresh_values(record({"a": 1}), rule, WRITTEN + 45.0).expires_in_s == 15.0


@pytest.mark.parametrize("now", [WRITTEN - 1e9, 0.0, -1.0])
def test_a_clock_that_went_back_makes_nothing_stale_and_no_age_negative(now):
    fresh = fresh_values(record({"a": 1}), FreshnessRule(default_ttl_s=0.001), now)
    assert (fresh.values, fresh.stale, fresh.age_s) == ({"a": 1}, (), 0.0)


def test_without_ttls_the_record_itself_is_used():
    stored = record({"a": 1})
    assert fresh_values(stored, NEVER_EXPIRES, 1e12).values is stored.values
    assert not FreshnessRule({"a": None}).expires


class Store:
    """One user and one item, as they were written."""

    async def read(self, user_id, item_ids, timeout_s=None):
        user = feature_record(user_id, 5.0, {"country": "no", "age": 31}, written_at=WRITTEN)
        item = {"price": 14.0, "genres": ["x"]}
        items = {each: feature_record(each, 5.0, item, written_at=WRITTEN) if each == "a" else None for each in item_ids}
        return StoredRecords(user, history_record(user_id, [], []), items)


@pytest.mark.parametrize(
    ("age", "user", "stale"),
    [
        (3_600, {"country": "no", "age": 31}, ()),
        (3_601, {"age": 31}, ("country",)),
        (86_401, {}, ("age", "country")),
    ],
)
async def test_a_request_gets_the_users_good_values_and_the_names_of_the_expired(age, user, stale):
    features = OnlineFeatures(Store(), ItemCache(CacheRule()), views=views_with_ttls(), wall_clock=lambda: WRITTEN + age)
    fetched = await features.fetch("u1", [], ENCODER, 5.0)
    assert (fetched.user, fetched.user_stale, fetched.user_written_at, fetched.faults) == (user, stale, WRITTEN, ())


@pytest.mark.parametrize(("age", "price"), [(60, 1.0), (61, 0.0)])
async def test_an_items_expired_field_alone_is_defaulted(age, price):
    features = OnlineFeatures(Store(), ItemCache(CacheRule()), views=views_with_ttls(), wall_clock=lambda: WRITTEN + age)
    fetched = await features.fetch("u1", ["a", "new"], ENCODER, 5.0)
    expected = ENCODER.views["item"].encode_records([{"item": "a", "genres": ["x"]}, {"item": "new"}])
    assert fetched.items.categories.tolist() == expected.categories.tolist()
    assert fetched.items.numbers[:, 0].tolist() == [price, 0.0]
    assert fetched.unknown_items == 1


def test_items_are_used_as_they_are_where_none_expires():
    stored = record({"price": 14.0})
    items = ItemFreshness(wall_clock=lambda: 1e12).of({"a": stored, "b": None})
    assert (items["a"].values is stored.values, items["a"].stale, items["a"].expires_in_s) == (True, (), None)
    assert items["b"] is None


class CachedItems:
    """A cache in front of the store, with one clock for both, and TTLs."""

    def __init__(self, **views):
        self.now = WRITTEN
        self.store = Store()
        self.cache = ItemCache(CacheRule(ttl_s=300.0, jitter=0.0), clock=lambda: self.now)
        views = shop_views(**views) if views else views_with_ttls()
        self.features = OnlineFeatures(self.store, self.cache, views=views, wall_clock=lambda: self.now)

    async def at(self, age, ids=("a",)):
        """Price and expired item fields of a request at this age of the records."""
        self.now = WRITTEN + age
        fetched = await self.features.fetch("u1", list(ids), ENCODER, 5.0)
        assert fetched.unknown_items == len(set(ids) - {"a"})
        return 10 + 4 * fetched.items.numbers[0, 0].item(), fetched.items_stale


async def test_a_cached_row_expires_with_its_field_and_the_field_is_told_from_then_on():
    shop = CachedItems()
    assert await shop.at(50) == (14.0, ())
    assert await shop.at(59.9) == (14.0, ())
    misses = shop.cache.counts.misses
    assert await shop.at(60.1) == (10.0, ("price",))
    assert shop.cache.counts.misses == misses + 1
    assert await shop.at(90, ["a", "new"]) == (10.0, ("price",))
    assert await shop.at(300) == (10.0, ("price",))
    assert shop.cache.counts.misses == misses + 2  # the new item; the row without the price serves its whole time


async def test_where_the_store_is_away_the_outlived_row_stands_in_and_the_answer_says_so():
    shop = CachedItems()
    await shop.at(50)

    async def away(user_id, item_ids, timeout_s=None):
        raise StoreUnavailableError("refused")

    shop.store.read = away
    shop.now = WRITTEN + 61
    fetched = await shop.features.fetch("u1", ["a"], ENCODER, 5.0)
    assert (fetched.items.numbers.tolist(), fetched.stale_items, fetched.unavailable) == ([[1.0]], 1, "refused")


async def test_requests_that_wait_for_the_same_read_are_told_the_same_expired_fields():
    shop = CachedItems()
    shop.now = WRITTEN + 61
    many = await asyncio.gather(*(shop.features.fetch(f"u{number}", ["a"], ENCODER, 5.0) for number in range(5)))
    assert [each.items_stale for each in many] == [("price",)] * 5


async def test_a_preload_holds_to_the_ttl_too():
    shop = CachedItems()
    shop.now = WRITTEN + 61
    assert await shop.features.preload(["a"], ENCODER, 5.0) == 1
    assert await shop.at(61) == (10.0, ("price",))


async def test_without_views_nothing_expires():
    features = OnlineFeatures(Store(), ItemCache(CacheRule()), wall_clock=lambda: 1e12)
    fetched = await features.fetch("u1", ["a"], ENCODER, 5.0)
    assert (fetched.user_stale, fetched.items.numbers.tolist()) == ((), [[1.0]])
