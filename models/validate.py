"""Is a team's data usable, and what is in it? Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from feature_store.tables import HISTORY_EVENT, ITEM_KEY, TIME, USER_KEY, EntityTables, label_column, read_tables
from feature_store.views import CategoriesField, CategoryField, FeatureViews, NumberField, load_views
from models.training.entities import EntityRows, number_entities
from models.training.point_in_time import history_windows, time_ranks
from models.training.split import check_parts, part_sizes, split_rows

HISTORY_QUANTILES = (0.1, 0.5, 0.9, 1.0)
_KEYS_SHOWN = 3

Field = CategoryField | CategoriesField | NumberField


@dataclass(frozen=True, slots=True)
class EntitySummary:
    """Rows of an entity's table, how many of them interactions name, and the keys that only interactions name."""

    rows: int
    named: int
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """Rows where the label is known, and the share of them where it is 1."""

    name: str
    known: int
    rate: float


@dataclass(frozen=True, slots=True)
class FieldSummary:
    """What a field holds: the share of rows without a value, distinct categories, and the range of numbers."""

    view: str
    name: str
    kind: str
    missing: float
    distinct: int
    smallest: float | None = None
    largest: float | None = None


@dataclass(frozen=True, slots=True)
class HistorySummary:
    """Events in all, the share of rows without history, and quantiles (``HISTORY_QUANTILES``) of the length kept."""

    events: int
    empty: float
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What is right with a data set."""

    views: FeatureViews
    interactions: int
    first_time: int | float
    last_time: int | float
    users: EntitySummary
    items: EntitySummary
    labels: tuple[LabelSummary, ...]
    history: HistorySummary
    parts: dict[str, int]
    fields: tuple[FieldSummary, ...]


def validate_data(path: Path) -> DataSummary:
    """Read a YAML of feature views and its tables as training would.

    Raises:
        ViewsError: the YAML's problems, all of them.
        TablesInvalidError: the tables' problems, all of them.
        SplitEmptyError: the split leaves a part without rows.
    """
    views = load_views(path)
    return summarize(views, read_tables(views, path.parent))


def summarize(views: FeatureViews, tables: EntityTables) -> DataSummary:
    """Count what the tables hold.

    Raises:
        SplitEmptyError: the split leaves a part without rows.
    """
    interactions = tables.interactions
    users = number_entities(tables.users, USER_KEY, interactions[USER_KEY])
    items = number_entities(tables.items, ITEM_KEY, interactions[ITEM_KEY])
    times = interactions[TIME].to_numpy()
    ranks = time_ranks(times)
    parts = split_rows(views.split, users.codes, ranks)
    check_parts(views.split, parts)
    windows = history_windows(users.codes, ranks, interactions[HISTORY_EVENT].to_numpy(), views.history.length)
    return DataSummary(
        views=views,
        interactions=interactions.height,
        first_time=times.min().item(),
        last_time=times.max().item(),
        users=_entity_summary(users),
        items=_entity_summary(items),
        labels=tuple(_label_summary(label.name, interactions) for label in views.labels),
        history=_history_summary(len(windows.events), windows.end - windows.start),
        parts=part_sizes(parts),
        fields=(
            *_field_summaries("user", views.user.fields, tables.users),
            *_field_summaries("item", views.item.fields, tables.items),
            *_field_summaries("context", views.request_fields, interactions),
            *_field_summaries("candidate", views.candidate_fields, interactions),
        ),
    )


def _entity_summary(entity: EntityRows) -> EntitySummary:
    named = np.unique(entity.codes)
    return EntitySummary(entity.in_table, int((named < entity.in_table).sum()), tuple(entity.absent))


def _label_summary(name: str, interactions: pl.DataFrame) -> LabelSummary:
    known = interactions[label_column(name)].drop_nulls().to_numpy()
    return LabelSummary(name, len(known), float(known.mean()))


def _history_summary(events: int, lengths: np.ndarray) -> HistorySummary:
    quantiles = np.quantile(lengths, HISTORY_QUANTILES, method="inverted_cdf")
    return HistorySummary(events, float((lengths == 0).mean()), tuple(quantiles.astype(int).tolist()))


def _field_summaries(view: str, fields: Iterable[Field], frame: pl.DataFrame) -> list[FieldSummary]:
    return [_field_summary(view, field, frame[field.name]) for field in fields]


def _field_summary(view: str, field: Field, values: pl.Series) -> FieldSummary:
    missing = values.null_count() / len(values)
    present = values.drop_nulls()
    if isinstance(field, CategoriesField):
        present = present.explode()
    distinct = present.n_unique()
    if not isinstance(field, NumberField) or not distinct:
        return FieldSummary(view, field.name, field.kind, missing, distinct)
    smallest, largest = present.to_numpy().min(), present.to_numpy().max()
    return FieldSummary(view, field.name, field.kind, missing, distinct, float(smallest), float(largest))


def summary_text(summary: DataSummary) -> str:
    """The summary for a terminal."""
    views, history = summary.views, summary.history
    parts = ", ".join(f"{name} {size:,}" for name, size in summary.parts.items())
    lengths = ", ".join(f"{share:.0%} {length}" for share, length in zip(HISTORY_QUANTILES, history.lengths, strict=True))
    lines = [
        f"{views.name}: the data can be used",
        f"  interactions  {summary.interactions:,} rows, time {summary.first_time!r} to {summary.last_time!r}",
        f"  users         {_entity_text(summary.users)}",
        f"  items         {_entity_text(summary.items)}",
        f"  split         by {views.split.by}: {parts}",
        f"  history       {history.events:,} events; empty before {history.empty:.1%} of rows; length quantiles {lengths}",
        *(f"  label         {_label_text(label, summary.interactions)}" for label in summary.labels),
        *(f"  {field.view:<13} {_field_text(field)}" for field in summary.fields),
        *(f"  note          {note}" for note in _notes(summary)),
    ]
    return "\n".join(lines)


def _entity_text(entity: EntitySummary) -> str:
    return f"{entity.rows:,} rows, {entity.named:,} of them in interactions"


def _label_text(label: LabelSummary, rows: int) -> str:
    unknown = rows - label.known
    without = f"; {unknown:,} rows without it, which do not train it" if unknown else ""
    return f"{label.name}: 1 in {label.rate:.2%} of {label.known:,} rows{without}"


def _field_text(field: FieldSummary) -> str:
    span = "" if field.smallest is None else f", {field.smallest:g} to {field.largest:g}"
    return f"{field.name} ({field.kind}): {field.distinct:,} values{span}, {field.missing:.1%} missing"


def _notes(summary: DataSummary) -> list[str]:
    notes = []
    for name, entity in (("users", summary.users), ("items", summary.items)):
        if entity.absent:
            some = ", ".join(map(repr, entity.absent[:_KEYS_SHOWN]))
            notes.append(f"{len(entity.absent):,} {name} of the interactions are not in the {name} table, such as {some}")
    notes += [f"{field.name} is missing everywhere" for field in summary.fields if not field.distinct]
    notes += [f"{field.name} has one value only" for field in summary.fields if field.distinct == 1]
    return notes
