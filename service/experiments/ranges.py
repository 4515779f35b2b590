"""Half-open bucket ranges ``[start, end)``: who owns a bucket, and what is wrong with a set of ranges."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Owner = TypeVar("Owner")


@dataclass(frozen=True, slots=True, order=True)
class BucketRange:
    """Buckets from ``start`` up to, not including, ``end``."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"[{self.start}, {self.end})"


@dataclass(frozen=True, slots=True)
class BucketOwners(Generic[Owner]):
    """Sorted ranges that do not overlap, each with its owner; ``owner_of`` costs one binary search."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    owners: tuple[Owner, ...]

    @classmethod
    def of(cls, owned: Iterable[tuple[Owner, Iterable[BucketRange]]]) -> BucketOwners[Owner]:
        """Gather the ranges of all owners; the ranges must not overlap (``range_problems`` says so)."""
        rows = sorted(((piece, owner) for owner, pieces in owned for piece in pieces), key=lambda row: row[0])
        return cls(
            tuple(piece.start for piece, _ in rows), tuple(piece.end for piece, _ in rows), tuple(owner for _, owner in rows)
        )

    def owner_of(self, bucket: int) -> Owner | None:
        """Who owns the bucket, or None."""
        place = bisect_right(self.starts, bucket) - 1
        if place < 0 or bucket >= self.ends[place]:
            return None
        return self.owners[place]


def outside_and_overlaps(owned: Sequence[tuple[str, BucketRange]], num_buckets: int) -> Iterator[str]:
    """One line per range that leaves ``[0, num_buckets)`` or shares buckets with another; ``owned`` pairs path and range."""
    furthest: tuple[str, BucketRange] | None = None
    for path, piece in sorted(owned, key=lambda row: row[1]):
        if piece.end > num_buckets:
            yield f"{path}: {piece} reaches past the {num_buckets} buckets"
        if furthest is not None and piece.start < furthest[1].end:
            yield f"{path}: {piece} overlaps {furthest[1]} of {furthest[0]}"
        if furthest is None or piece.end > furthest[1].end:
            furthest = (path, piece)


def gaps(pieces: Iterable[BucketRange], num_buckets: int) -> list[BucketRange]:
    """The parts of ``[0, num_buckets)`` that no range covers."""
    missing = []
    reach = 0
    for piece in sorted([*pieces, BucketRange(num_buckets, num_buckets)]):
        start = min(piece.start, num_buckets)
        if start > reach:
            missing.append(BucketRange(reach, start))
        reach = max(reach, piece.end)
    return missing
