"""Ids from one column of a CSV or Parquet table, in the type that requests send them in."""

from __future__ import annotations

import polars as pl

from loadtest.errors import IdsUnreadableError
from loadtest.options import IdColumn

Ids = list[int] | list[str]

# Text that an integer would be written as: "007" and "+7" stay text, or the id would become another one.
_INTEGER_TEXT = r"^(?:0|-?[1-9][0-9]{0,18})$"


def read_ids(source: IdColumn) -> Ids:
    """The distinct ids of a column, in the order of their first row.

    Parquet integers stay integers and text stays text. A CSV column becomes integers only if every value is written as one.

    Raises:
        IdsUnreadableError: no such table or column, no rows, a row without an id, or ids that are neither text nor integers.
    """
    ids = _column(source)
    if ids.is_empty():
        raise IdsUnreadableError(f"{source.path} has no rows: its column {source.column!r} must hold at least one id")
    empty = (ids.is_null() | (ids == "") if ids.dtype == pl.String else ids.is_null()).arg_true()
    if len(empty):
        raise IdsUnreadableError(
            f"{source.path}: column {source.column!r} has no id in {len(empty)} rows, first in row {empty[0] + 1} of the data"
        )
    return _typed(source, ids).unique(maintain_order=True).to_list()


def _column(source: IdColumn) -> pl.Series:
    table = _scan(source)
    try:
        names = table.collect_schema().names()
        if source.column not in names:
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise IdsUnreadableError(f"{source.path} has no column {source.column!r}; it has: {shown}")
        return table.select(source.column).collect().to_series()
    except pl.exceptions.NoDataError:
        raise IdsUnreadableError(f"{source.path} is empty: a header and rows are needed") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise IdsUnreadableError(f"{source.path} cannot be read as {source.path.suffix}: {error}") from None


def _scan(source: IdColumn) -> pl.LazyFrame:
    if not source.path.is_file():
        raise IdsUnreadableError(f"there is no table {source.path}")
    if source.path.suffix == ".parquet":
        return pl.scan_parquet(source.path, glob=False)
    if source.path.suffix == ".csv":
        return pl.scan_csv(source.path, infer_schema=False, glob=False)
    raise IdsUnreadableError(f"{source.path}: only .csv and .parquet tables are read")


def _typed(source: IdColumn, ids: pl.Series) -> pl.Series:
    if ids.dtype.is_integer():
        return ids
    if ids.dtype in (pl.Categorical, pl.Enum):
        return ids.cast(pl.String)
    if ids.dtype != pl.String:
        raise IdsUnreadableError(f"{source.path}: column {source.column!r} is {ids.dtype}, ids are text or integers")
    if source.path.suffix != ".csv" or not ids.str.contains(_INTEGER_TEXT).all():
        return ids
    integers = ids.cast(pl.Int64, strict=False)
    return ids if integers.has_nulls() else integers
