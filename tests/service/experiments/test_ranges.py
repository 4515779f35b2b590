"""Half-open ranges against a count of every bucket."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.experiments.ranges import BucketOwners, BucketRange, gaps, outside_and_overlaps

NUM_BUCKETS = st.integers(2, 12)
RANGES = st.lists(
    st.tuples(st.integers(0, 15), st.integers(1, 6)).map(lambda pair: BucketRange(pair[0], pair[0] + pair[1])), max_size=5
)


def _buckets(pieces):
    return Counter(bucket for piece in pieces for bucket in range(piece.start, piece.end))


@given(pieces=RANGES, num_buckets=NUM_BUCKETS)
def test_gaps_are_exactly_the_buckets_that_no_range_holds(pieces, num_buckets):
    found = gaps(pieces, num_buckets)
    assert _buckets(found) == Counter(set(range(num_buckets)) - set(_buckets(pieces)))
    assert all(before.end < after.start for before, after in pairwise(found))


@given(pieces=RANGES, num_buckets=NUM_BUCKETS)
def test_a_bucket_held_twice_or_from_outside_is_reported_and_nothing_else_is(pieces, num_buckets):
    held = _buckets(pieces)
    wrong = any(count > 1 for count in held.values()) or any(bucket >= num_buckets for bucket in held)
    assert bool(list(outside_and_overlaps([("path", piece) for piece in pieces], num_buckets))) == wrong


def test_an_overlap_names_both_ranges_even_across_a_shorter_one_between():
    owned = [("a", BucketRange(0, 9)), ("b", BucketRange(1, 2)), ("c", BucketRange(8, 10))]
    assert list(outside_and_overlaps(owned, 10)) == ["b: [1, 2) overlaps [0, 9) of a", "c: [8, 10) overlaps [0, 9) of a"]


def test_buckets_below_between_and_above_the_ranges_have_no_owner():
    owners = BucketOwners.of([("late", [BucketRange(7, 8)]), ("early", [BucketRange(2, 4), BucketRange(5, 6)])])
    assert [owners.owner_of(bucket) for bucket in range(10)] == [
        *(None, None, "early", "early", None, "early", None, "late", None, None),
    ]
