"""Sizes that batches are padded to, so that a device sees a few shapes instead of any: plans and CUDA graphs are kept for each.

Padding is zeros: id 0 is in every table, and user 0 in every batch. Scores of a row depend on no other row, so the padding's
are cut off again and nothing needs a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class RowBuckets:
    """Sizes from ``smallest`` to ``largest``, each twice the one before."""

    smallest: int = 256
    largest: int = 32_768

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.largest:
            raise ValueError(f"buckets must begin at 1 or more and not end before, not {self.smallest} to {self.largest}")

    def size(self, count: int) -> int | None:
        """The smallest size that holds so many; None when none does."""
        size = self.smallest
        while size < count:
            size *= 2
        return size if size <= self.largest else None


@dataclass(frozen=True, slots=True)
class BoundSettings:
    """Run from buffers that stay where they are, at a few sizes: what a GPU wants and CUDA graphs demand.

    ``cuda_graphs`` records the launches of each size once and replays them. ``on_cpu``: do the same on a CPU, where it only
    costs; for tests of this very path.
    """

    rows: RowBuckets = RowBuckets()
    users: RowBuckets = RowBuckets(1, 4_096)
    cuda_graphs: bool = True
    on_cpu: bool = False


def fill(buffer: npt.NDArray[Any], array: npt.NDArray[Any], filled: int) -> int:
    """Copy an array to the beginning of a buffer whose first ``filled`` entries are of an earlier batch.

    What is left of that batch is set to zero. Returns the entries that are filled now.
    """
    count = len(array)
    buffer[:count] = array
    if count < filled:
        buffer[count:filled] = 0
    return count
