"""All interactions in encoded form, entities encoded once and indexed: memory grows with rows, not with features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from feature_store.encoding.categories import MISSING_ID
from feature_store.encoding.encoder import HISTORY_INPUT, ROW_USER_INPUT, Block, FeatureEncoder, ViewEncoder
from feature_store.encoding.values import RawValue
from feature_store.tables import HISTORY_EVENT, REQUEST, SERVED, TIME, EntityTables, label_column
from feature_store.views import FeatureViews
from models.training.encoder_fit import encode_frame
from models.training.entities import Codes, EntityRows
from models.training.point_in_time import HistoryWindows, history_windows, with_told

Places = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the online service would meet it: ids and raw values as of the row's own time.

    ``history_items`` and ``history_times`` are the newest ``history_length`` events strictly before ``time``, oldest first.
    Where the table tells the history that was served, it is that one; its times are not known, and ``time`` stands for each.
    An entity that its table lacks has None for every field, but an item its own key.
    """

    user_id: str
    item_id: str
    time: int | float
    user: Mapping[str, RawValue]
    item: Mapping[str, RawValue]
    context: Mapping[str, RawValue]
    candidate: Mapping[str, RawValue]
    history_items: Sequence[str]
    history_times: Sequence[int | float]


@dataclass(frozen=True)
class RowStore:
    """Row r is interaction r of the table. Blocks are [users], [items] or [rows] long; ``windows`` cuts ``history_ids``.

    ``history_ids`` is int32 [events + told + 1]: the encoded item of each history event, those of the histories that the table
    tells as served, and at its end the padding id. ``interactions`` has time, context, and the served histories, if declared.
    """

    views: FeatureViews
    users: EntityRows
    items: EntityRows
    interactions: pl.DataFrame
    blocks: Mapping[str, Block]
    windows: HistoryWindows
    history_ids: npt.NDArray[np.int32]
    labels: Mapping[str, npt.NDArray[np.float32]]
    groups: Codes

    def batch(self, rows: Codes, history_length: int) -> dict[str, Tensor]:
        """The tensors of ``models.zoo.inputs`` for these rows, each with a users axis of its own: ``row_user`` counts up."""
        users, items = self.users.codes[rows], self.items.codes[rows]
        places = {"user": users, "context": rows, "item": items, "candidate": rows}
        tensors: dict[str, Tensor] = {}
        for view, block in self.blocks.items():
            if block.categories.shape[1]:
                tensors[f"{view}_categories"] = torch.from_numpy(block.categories[places[view]])
            if block.numbers.shape[1]:
                tensors[f"{view}_numbers"] = torch.from_numpy(block.numbers[places[view]])
        tensors[HISTORY_INPUT] = torch.from_numpy(self._histories(rows, history_length))
        tensors[ROW_USER_INPUT] = torch.arange(len(rows), dtype=torch.int32)
        return tensors

    def raw(self, row: int) -> RawRow:
        """The raw values behind one row."""
        user, item = int(self.users.codes[row]), int(self.items.codes[row])
        history_items, history_times = self._raw_history(row)
        return RawRow(
            user_id=self.users.frame[self.users.key][user],
            item_id=self.items.frame[self.items.key][item],
            time=self.interactions[TIME][row],
            user=_values(self.users.frame, [field.name for field in self.views.user.fields], user),
            item=_values(self.items.frame, [field.name for field in self.views.item.fields], item),
            context=_values(self.interactions, [field.name for field in self.views.request_fields], row),
            candidate=_values(self.interactions, [field.name for field in self.views.candidate_fields], row),
            history_items=history_items,
            history_times=history_times,
        )

    def _raw_history(self, row: int) -> tuple[list[str], list[int | float]]:
        served = self.interactions[SERVED][row] if SERVED in self.interactions.columns else None
        if served is not None:
            newest = served.tail(self.views.history.length).to_list()
            return newest, [self.interactions[TIME][row]] * len(newest)
        events = self.windows.events[self.windows.start[row] : self.windows.end[row]]
        items = self.items.frame[self.items.key].gather(self.items.codes[events])
        return items.to_list(), self.interactions[TIME].gather(events).to_list()

    def _histories(self, rows: Codes, length: int) -> npt.NDArray[np.int32]:
        """int32 [rows, length], oldest first, padded behind: what ``FeatureEncoder.encode_history`` makes of the raw lists."""
        start, end = self.windows.start[rows, None], self.windows.end[rows, None]
        places = start + np.arange(length)
        padding = len(self.history_ids) - 1
        return self.history_ids[np.where(places < end, places, padding)]


def build_row_store(
    views: FeatureViews, tables: EntityTables, *, encoder: FeatureEncoder, users: EntityRows, items: EntityRows, ranks: Codes
) -> RowStore:
    """Encode entities, contexts and the history once; ``ranks`` orders the interactions' times."""
    interactions = tables.interactions
    is_event = interactions[HISTORY_EVENT].to_numpy()
    windows = history_windows(users.codes, ranks, is_event, encoder.history_length)
    event_ids = _history_ids(encoder, items.frame[items.key])[items.codes[windows.events]]
    served_rows, served = _served(interactions, encoder.history_length)
    served_ids = _history_ids(encoder, served.filter(served.list.len() > 0).explode())
    told = served.list.len().cast(pl.Int64).to_numpy()
    kept = [TIME, *(field.name for field in views.context), *({SERVED} & set(interactions.columns))]
    return RowStore(
        views=views,
        users=users,
        items=items,
        interactions=interactions.select(kept),
        blocks={
            "user": encode_frame(encoder.views["user"], users.frame),
            "context": encode_frame(encoder.views["context"], interactions),
            "item": encode_frame(encoder.views["item"], items.frame),
            "candidate": encode_frame(encoder.views["candidate"], interactions),
        },
        windows=with_told(windows, served_rows, told),
        history_ids=np.concatenate([event_ids, served_ids, np.array([MISSING_ID], dtype=np.int32)]),
        labels={label.name: _labels(interactions, label.name) for label in views.labels},
        groups=_groups(interactions, users),
    )


def _history_ids(encoder: FeatureEncoder, keys: pl.Series) -> npt.NDArray[np.int32]:
    """The id of each item as a history event, int32 [items]: by its key, whether or not the items table has it."""
    column = encoder.item_key_column
    return encode_frame(ViewEncoder((column,), ()), pl.DataFrame({column.name: keys})).categories[:, 0]


def _served(interactions: pl.DataFrame, length: int) -> tuple[Codes, pl.Series]:
    """The rows whose served history is known, int64 [told], and its newest ``length`` items, lists [told]."""
    if SERVED not in interactions.columns:
        return np.zeros(0, dtype=np.int64), pl.Series(SERVED, [], dtype=pl.List(pl.String))
    served = interactions[SERVED]
    rows = served.is_not_null().arg_true().to_numpy().astype(np.int64)
    return rows, served.drop_nulls().list.tail(length)


def _labels(interactions: pl.DataFrame, name: str) -> npt.NDArray[np.float32]:
    return interactions[label_column(name)].fill_null(float("nan")).to_numpy().astype(np.float32)


def _groups(interactions: pl.DataFrame, users: EntityRows) -> Codes:
    if REQUEST not in interactions.columns:
        return users.codes
    return (interactions[REQUEST].rank("dense").to_numpy() - 1).astype(np.int64)


def _values(frame: pl.DataFrame, names: Sequence[str], row: int) -> dict[str, RawValue]:
    values: dict[str, RawValue] = {}
    for name in names:
        value = frame[name][row]
        values[name] = value.to_list() if isinstance(value, pl.Series) else value
    return values
