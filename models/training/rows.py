"""From canonical tables to training rows: point in time, split, encoded by an encoder fitted on the training part alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

from feature_store.encoding.encoder import FeatureEncoder
from feature_store.tables import ITEM_KEY, TIME, USER_KEY, EntityTables
from feature_store.views import FeatureViews
from models.training.encoder_fit import fit_encoder
from models.training.entities import Codes, EntityRows, number_entities
from models.training.fingerprint import data_fingerprint
from models.training.network_inputs import network_inputs
from models.training.point_in_time import time_ranks
from models.training.row_store import Places, RawRow, RowStore, build_row_store
from models.training.split import TEST, TRAIN, VALID, check_parts, split_rows
from models.zoo.inputs import NetworkInputs


@dataclass(frozen=True)
class RowSet:
    """The rows of one part, in the table's order; ``rows`` are their places in the interactions table, int64 [n]."""

    store: RowStore
    rows: Codes
    history_length: int

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, places: Places) -> dict[str, Tensor]:
        """The tensors of the rows at ``places`` of this set (names and shapes: ``models.zoo.inputs``)."""
        return self.store.batch(self.rows[places], self.history_length)

    @cached_property
    def labels(self) -> dict[str, npt.NDArray[np.float32]]:
        """Label name to float32 [n]: 0, 1, or NaN where it is not known (see ``labelled``)."""
        return {name: values[self.rows] for name, values in self.store.labels.items()}

    @cached_property
    def users(self) -> Codes:
        """A code per user, int64 [n]."""
        return self.store.users.codes[self.rows]

    @cached_property
    def groups(self) -> Codes:
        """A code per request, or per user when the views name no request column; int64 [n]."""
        return self.store.groups[self.rows]

    def labelled(self, label: str) -> RowSet:
        """The rows whose ``label`` is known. A row without it still teaches the other labels and still is history."""
        known = ~np.isnan(self.labels[label])
        return RowSet(self.store, self.rows[known], self.history_length)

    def unlabelled_count(self, label: str) -> int:
        """How many rows ``labelled`` leaves out."""
        return int(np.isnan(self.labels[label]).sum())

    def raw(self, place: int) -> RawRow:
        """The raw values behind the row at ``place``, as a request would bring them."""
        return self.store.raw(int(self.rows[place]))


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Everything a training run learns from; ``fingerprint`` is the same for the same views and tables."""

    encoder: FeatureEncoder
    inputs: NetworkInputs
    fingerprint: str
    train: RowSet
    valid: RowSet
    test: RowSet


def build_training_data(views: FeatureViews, tables: EntityTables) -> TrainingData:
    """Split, fit and encode.

    Raises:
        SplitEmptyError: a part of the split has no rows.
    """
    interactions = tables.interactions
    users, items = _entities(views, tables)
    ranks = time_ranks(interactions[TIME].to_numpy())
    parts = split_rows(views.split, users.codes, ranks)
    check_parts(views.split, parts)
    encoder = fit_encoder(views, users=users, items=items, interactions=interactions, train=parts == TRAIN)
    store = build_row_store(views, tables, encoder=encoder, users=users, items=items, ranks=ranks)
    sets = [RowSet(store, np.flatnonzero(parts == part), encoder.history_length) for part in (TRAIN, VALID, TEST)]
    return TrainingData(encoder, network_inputs(encoder), data_fingerprint(views, tables), *sets)


def encode_rows(views: FeatureViews, tables: EntityTables, encoder: FeatureEncoder) -> RowSet:
    """All rows of the tables by an encoder that was fitted before, on whatever data: as the model behind it would be asked."""
    users, items = _entities(views, tables)
    ranks = time_ranks(tables.interactions[TIME].to_numpy())
    store = build_row_store(views, tables, encoder=encoder, users=users, items=items, ranks=ranks)
    return RowSet(store, np.arange(tables.interactions.height), encoder.history_length)


def _entities(views: FeatureViews, tables: EntityTables) -> tuple[EntityRows, EntityRows]:
    """Users and items, numbered."""
    interactions, key_field = tables.interactions, views.item_key_field
    return number_entities(tables.users, USER_KEY, interactions[USER_KEY]), number_entities(
        tables.items, ITEM_KEY, interactions[ITEM_KEY], key_field=None if key_field is None else key_field.name
    )
