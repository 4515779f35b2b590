"""Which rows train, which validate, which test. numpy only, so that checking data needs no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from feature_store.views import Split

PARTS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)

Codes = npt.NDArray[np.int64]
Parts = npt.NDArray[np.int8]


class SplitEmptyError(ValueError):
    """The tables are sound, but the split that the views ask for leaves a part without rows."""


def split_rows(split: Split, users: Codes, ranks: Codes) -> Parts:
    """The part of each row: ``TRAIN``, ``VALID`` or ``TEST``, as int8 [rows].

    By time the cuts are two moments of the whole table; by position they are two moments of each user's own rows. Rows at
    the moment of a cut all fall on its later side, so equal times never straddle a cut.

    Args:
        split: shares and rule.
        users: int64 codes [rows].
        ranks: order of times, equal where times are equal, as int64 [rows].
    """
    groups = users if split.by == "position" else np.zeros_like(users)
    order = np.lexsort((ranks, groups))
    names, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    sorted_ranks = ranks[order]
    group_of = np.searchsorted(names, groups)
    tested = _share(counts, split.test)
    held_out = tested + _share(counts, split.valid)
    valid_cut = _cut(sorted_ranks, starts, counts, held_out)[group_of]
    test_cut = _cut(sorted_ranks, starts, counts, tested)[group_of]
    return np.select([ranks >= test_cut, ranks >= valid_cut], [TEST, VALID], TRAIN).astype(np.int8)


def part_sizes(parts: Parts) -> dict[str, int]:
    """Rows of each part by its name."""
    return dict(zip(PARTS, np.bincount(parts, minlength=len(PARTS)).tolist(), strict=True))


def check_parts(split: Split, parts: Parts) -> None:
    """Every part has rows.

    Raises:
        SplitEmptyError: naming the empty parts and what to change.
    """
    sizes = part_sizes(parts)
    empty = [name for name, size in sizes.items() if not size]
    if empty:
        counts = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise SplitEmptyError(
            f"the split by {split.by} leaves no rows for {' and '.join(empty)} ({counts}): "
            "bring more rows, spread over more moments, or change split in the views"
        )


def _share(counts: Codes, share: float) -> Codes:
    """``share`` of each count, to the nearest whole row, halves up."""
    shares: Codes = np.floor(counts * share + 0.5).astype(np.int64)
    return shares


def _cut(sorted_ranks: Codes, starts: Codes, counts: Codes, last: Codes) -> Codes:
    """The rank at which the ``last`` rows of each group begin; beyond every rank where there are none."""
    places = np.minimum(starts + counts - last, len(sorted_ranks) - 1)
    return np.where(last > 0, sorted_ranks[places], np.iinfo(np.int64).max)
