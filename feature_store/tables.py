"""The three tables of a team as canonical Polars frames: the only reader, for training, validation and materialization.

Canonical columns are named by role or by field, so that two fields may read one column and no name can collide:

================ =============== ==================================================================
column           dtype           content
================ =============== ==================================================================
``USER_KEY``     String          in users and interactions; integers as decimal text
``ITEM_KEY``     String          in items and interactions
``TIME``         Int64, Float64  in interactions, never null; date-times as seconds since 1970
``REQUEST``      String          in interactions when the views name a request column
``HISTORY_EVENT`` Boolean        in interactions: the row becomes history for later rows
``SERVED``       List(String)    in interactions when the views name a served history; null where none is known
``label_column`` Float64         in interactions, one a label: 0, 1 or null (unknown)
field's name     String          kind category; null where missing
field's name     List(String)    kind categories; null where missing, no empty parts
field's name     Float64         kind number; finite, null where missing
================ =============== ==================================================================

User fields stand in ``users``, item fields in ``items``, context fields in ``interactions``. Rows keep their file's order.
A user or item that interactions name but its table lacks is no error: its fields are missing, but for the one that is an
item's own key, online and offline.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from feature_store.table_checks import check_ids, check_key, check_label, check_times, check_unique
from feature_store.table_columns import (
    RawColumn,
    categories_column,
    flag_column,
    ids_column,
    number_column,
    text_column,
    time_column,
)
from feature_store.table_files import RawTable, missing_column_reason, read_raw_table
from feature_store.table_problems import ProblemLog
from feature_store.views import CategoriesField, CategoryField, Condition, Entity, FeatureViews, NumberField

USER_KEY = "@user"
ITEM_KEY = "@item"
TIME = "@time"
REQUEST = "@request"
HISTORY_EVENT = "@event"
SERVED = "@served"

Field = CategoryField | CategoriesField | NumberField


def label_column(name: str) -> str:
    """The canonical column of the label called ``name``."""
    return f"@label:{name}"


@dataclass(frozen=True, slots=True)
class EntityTables:
    """The canonical tables (columns as the module says)."""

    interactions: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame


def read_tables(views: FeatureViews, base: Path) -> EntityTables:
    """Read the views' tables, whose paths are relative to ``base`` (the folder of the YAML).

    Raises:
        TablesInvalidError: every problem of all three files, each with file, row, column and reason.
    """
    log = ProblemLog()
    users = _read_entity(base / views.tables.users, views.user, USER_KEY, log)
    items = _read_entity(base / views.tables.items, views.item, ITEM_KEY, log)
    interactions = _read_interactions(base / views.tables.interactions, views, log)
    log.raise_if_any()
    return EntityTables(pl.DataFrame(interactions), pl.DataFrame(users), pl.DataFrame(items))


class _Source:
    """The raw columns of one file by name; an absent one is noted once."""

    def __init__(self, table: RawTable, log: ProblemLog) -> None:
        self._table = table
        self._log = log
        self._absent: set[str] = set()

    def column(self, name: str) -> RawColumn | None:
        if name in self._table.frame.columns:
            return RawColumn(self._table.file, name, self._table.frame[name], self._log)
        if name not in self._absent:
            self._absent.add(name)
            self._log.add(self._table.file, missing_column_reason(self._table), column=name)
        return None

    def key(self, name: str) -> pl.Series | None:
        column = self.column(name)
        keys = None if column is None else text_column(column)
        if column is not None and keys is not None:
            check_key(column, keys)
        return keys

    def ids(self, name: str) -> pl.Series | None:
        column = self.column(name)
        ids = None if column is None else ids_column(column)
        if column is not None and ids is not None:
            check_ids(column, ids)
        return ids

    def field(self, field: Field) -> pl.Series | None:
        column = self.column(field.source)
        if column is None:
            return None
        if isinstance(field, NumberField):
            return number_column(column)
        if isinstance(field, CategoriesField):
            return categories_column(column, field.separator)
        return text_column(column)

    def flag(self, condition: Condition) -> pl.Series | None:
        column = self.column(condition.column)
        return None if column is None else flag_column(column, condition)


def _read_entity(path: Path, entity: Entity, key_name: str, log: ProblemLog) -> list[pl.Series]:
    table = read_raw_table(path, {entity.key, *(field.source for field in entity.fields)}, log)
    if table is None:
        return []
    source = _Source(table, log)
    keys = source.key(entity.key)
    key_column = source.column(entity.key)
    if keys is not None and key_column is not None:
        check_unique(key_column, keys)
    return _named([(key_name, keys), *((field.name, source.field(field)) for field in entity.fields)])


def _read_interactions(path: Path, views: FeatureViews, log: ProblemLog) -> list[pl.Series]:
    table = read_raw_table(path, _interaction_columns(views), log)
    if table is None:
        return []
    source = _Source(table, log)
    columns = [
        (USER_KEY, source.key(views.user.key)),
        (ITEM_KEY, source.key(views.item.key)),
        (TIME, _times(source, views)),
        (HISTORY_EVENT, _history_events(source, views, table.frame.height)),
        *((field.name, source.field(field)) for field in views.context),
        *((label_column(label.name), _label(source, label)) for label in views.labels),
    ]
    if views.interactions.request is not None:
        columns.append((REQUEST, source.key(views.interactions.request)))
    if views.interactions.served_history is not None:
        columns.append((SERVED, source.ids(views.interactions.served_history)))
    return _named(columns)


def _interaction_columns(views: FeatureViews) -> set[str]:
    conditions: list[Condition] = [*views.labels, *([views.history.where] if views.history.where else [])]
    rows = views.interactions
    names = {views.user.key, views.item.key, rows.time, rows.request, rows.served_history}
    names |= {condition.column for condition in conditions} | {field.source for field in views.context}
    return {name for name in names if name is not None}


def _history_events(source: _Source, views: FeatureViews, rows: int) -> pl.Series | None:
    if views.history.where is None:
        return pl.repeat(value=True, n=rows, eager=True)
    flags = source.flag(views.history.where)
    return None if flags is None else flags.fill_null(value=False)


def _times(source: _Source, views: FeatureViews) -> pl.Series | None:
    column = source.column(views.interactions.time)
    times = None if column is None else time_column(column)
    if column is not None and times is not None and views.events is not None:
        check_times(column, times, views.events)
    return times


def _label(source: _Source, condition: Condition) -> pl.Series | None:
    column = source.column(condition.column)
    flags = source.flag(condition)
    if column is None or flags is None:
        return None
    check_label(column, flags)
    return flags.cast(pl.Float64)


def _named(columns: Iterable[tuple[str, pl.Series | None]]) -> list[pl.Series]:
    return [series.alias(name) for name, series in columns if series is not None]
