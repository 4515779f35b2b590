"""Rows as whole batches by index arrays: no per-row Python, no worker processes, an order that seed and epoch alone decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.training.metrics import LabelledRows

Places = npt.NDArray[np.int64]
LabelledBatch = tuple[dict[str, Tensor], Tensor]


class Rows(Protocol):
    """A part of the data: ``batch`` makes the tensors of ``models/zoo/inputs.py`` for the rows at ``places``."""

    @property
    def labels(self) -> Mapping[str, npt.NDArray[np.float32]]: ...
    @property
    def users(self) -> npt.NDArray[Any]: ...
    @property
    def groups(self) -> npt.NDArray[np.int64]: ...

    def __len__(self) -> int: ...
    def batch(self, places: Places) -> dict[str, Tensor]: ...


class EpochOrder:
    """The order of one epoch; Lightning tells a loader's ``sampler`` the epoch, also after a resume."""

    def __init__(self, places: Places, seed: int) -> None:
        self._places = places
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0."""
        self._epoch = epoch

    def places(self) -> Places:
        """All places, shuffled by seed and epoch."""
        return np.random.default_rng([self._seed, self._epoch]).permutation(self._places)


class RowBatches:
    """Batches of the rows that have ``label``, each of at most ``batch_rows``, in table order.

    Sizes differ by one at most: a last batch of a single row would stop batch normalization.
    """

    def __init__(self, rows: Rows, label: str, *, batch_rows: int) -> None:
        self._rows = rows
        self._labels = rows.labels[label]
        self._places = np.flatnonzero(~np.isnan(self._labels))
        self._batch_rows = batch_rows

    @property
    def rows(self) -> int:
        """Number of rows in an epoch."""
        return len(self._places)

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return math.ceil(len(self._places) / self._batch_rows)

    def __iter__(self) -> Iterator[LabelledBatch]:
        for chosen in np.array_split(self._order(), max(len(self), 1)):
            if len(chosen):
                yield self._rows.batch(chosen), torch.from_numpy(self._labels[chosen])

    def labelled(self) -> LabelledRows:
        """What metrics need of the rows, in table order."""
        chosen = self._places
        return LabelledRows(self._labels[chosen], self._rows.users[chosen], self._rows.groups[chosen])

    def _order(self) -> Places:
        return self._places


class ShuffledRowBatches(RowBatches):
    """The same batches in an order drawn anew for each epoch."""

    def __init__(self, rows: Rows, label: str, *, batch_rows: int, seed: int) -> None:
        super().__init__(rows, label, batch_rows=batch_rows)
        self.sampler = EpochOrder(self._places, seed)

    def _order(self) -> Places:
        return self.sampler.places()
