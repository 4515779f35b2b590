"""The one place that knows the inside of ``prometheus_client``: its histograms have no public way to add what was counted
elsewhere. A test compares with ``observe``, so that a release that moves these fields is noticed."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Histogram


def upper_bounds(child: Histogram) -> tuple[float, ...]:
    """The upper bounds of a histogram's buckets, ascending; infinity is the last."""
    return tuple(child._upper_bounds)


def add_observations(child: Histogram, counts: Iterable[int], total: float) -> None:
    """Add observations to a histogram that has its label values: how many fell into each bucket, and their sum.

    ``counts``: one per bound of ``upper_bounds``, not cumulative.
    """
    for bucket, count in zip(child._buckets, counts, strict=True):
        if count:
            bucket.inc(count)
    child._sum.inc(total)
