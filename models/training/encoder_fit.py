"""Fit a ``FeatureEncoder`` on training rows, and encode whole columns with it.

Offline columns go through the same ``CategoryColumn`` and ``NumberColumn`` as a request does online; only that each
distinct value is encoded once is offline's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.encoding.categories import CategoryColumn, Ids, fit_category_ids
from feature_store.encoding.encoder import Block, FeatureEncoder, ViewEncoder
from feature_store.encoding.numbers import NumberColumn
from feature_store.views import CategoriesField, CategoryField, FeatureViews, NumberField
from models.training.entities import EntityRows

Field = CategoryField | CategoriesField | NumberField
Counts = npt.NDArray[np.int64]


def fit_encoder(
    views: FeatureViews,
    *,
    users: EntityRows,
    items: EntityRows,
    interactions: pl.DataFrame,
    train: npt.NDArray[np.bool_],
) -> FeatureEncoder:
    """Fit every field on the rows where ``train`` (bool [interactions]) is true, and on nothing else.

    A vocabulary counts a value each time that a training row carries it. A number of a user or item is fitted on the
    entities seen in training, each once; a number of the context on the training rows.
    """
    user_rows = _rows_per_entity(users, train)
    item_rows = _rows_per_entity(items, train)
    context_rows = train.astype(np.int64)
    item_key = views.item_key_field
    if item_key is None:
        raise ValueError("views without an item key field were let through")
    return FeatureEncoder(
        views={
            "user": _fit_view(views.user.fields, users.frame, user_rows),
            "context": _fit_view(views.request_fields, interactions, context_rows),
            "item": _fit_view(views.item.fields, items.frame, item_rows),
            "candidate": _fit_view(views.candidate_fields, interactions, context_rows),
        },
        item_key=item_key.name,
        history_length=views.history.length,
    )


def encode_frame(view: ViewEncoder, frame: pl.DataFrame) -> Block:
    """Encode all rows of a canonical frame that has a column for each of the view's fields."""
    empty = np.zeros((frame.height, 0), dtype=np.int32)
    categories = np.hstack([empty, *(_encode_distinct(column, frame[column.name]) for column in view.categories)])
    numbers = np.empty((frame.height, len(view.numbers)), dtype=np.float32)
    for place, number in enumerate(view.numbers):
        numbers[:, place] = number.encode(_floats(frame[number.name]))
    return Block(categories, numbers)


def _rows_per_entity(entity: EntityRows, train: npt.NDArray[np.bool_]) -> Counts:
    return np.bincount(entity.codes[train], minlength=entity.frame.height)


def _fit_view(fields: Iterable[Field], frame: pl.DataFrame, rows: Counts) -> ViewEncoder:
    """``rows`` says how many training rows carry each row of ``frame``."""
    categories, numbers = [], []
    for field in fields:
        values = frame[field.name]
        if isinstance(field, NumberField):
            numbers.append(NumberColumn.fit(field, _floats(values.filter(pl.Series(rows > 0)))))
            continue
        multiple = isinstance(field, CategoriesField)
        slots = field.max_values if isinstance(field, CategoriesField) else 1
        ids = fit_category_ids(field, _value_counts(values, rows))
        categories.append(CategoryColumn(field.name, ids, slots=slots, multiple=multiple))
    return ViewEncoder(tuple(categories), tuple(numbers))


def _value_counts(values: pl.Series, rows: Counts) -> Mapping[str, int]:
    """How many training rows carry each value; values that none carries are left out."""
    frame = pl.DataFrame({"value": values, "rows": rows}).filter(pl.col("rows") > 0)
    if isinstance(values.dtype, pl.List):
        frame = frame.explode("value")
    counts = frame.drop_nulls("value").group_by("value").agg(pl.col("rows").sum())
    return dict(counts.iter_rows())


def _encode_distinct(column: CategoryColumn, values: pl.Series) -> Ids:
    frame = pl.DataFrame({"value": values})
    distinct = frame.unique(maintain_order=True).with_row_index("place")
    places = frame.join(distinct, on="value", how="left", nulls_equal=True, maintain_order="left")["place"]
    encoded: Ids = column.encode(distinct["value"].to_list())[places.to_numpy()]
    return encoded


def _floats(values: pl.Series) -> npt.NDArray[np.float64]:
    """Float64 with NaN where null."""
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
