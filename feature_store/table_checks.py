"""What must hold of canonical keys and labels beyond their type."""

from __future__ import annotations

import polars as pl

from feature_store.table_columns import RawColumn
from feature_store.table_problems import MAX_EXAMPLES, shown

MAX_KEY_BYTES = 256
"""Longest user, item or request id in UTF-8 bytes; the service refuses longer ones too."""


def check_key(column: RawColumn, keys: pl.Series) -> None:
    """Keys are present, and such that the service accepts them as ids: short enough, every character printable."""
    column.refuse_rows(keys.is_null(), "is no key")
    column.refuse_rows(keys.str.len_bytes() > MAX_KEY_BYTES, f"is longer than {MAX_KEY_BYTES} UTF-8 bytes")
    unprintable = [key for key in keys.unique().drop_nulls().to_list() if not key.isprintable()]
    column.refuse_rows(keys.is_in(unprintable), "holds control or invisible characters, which the service refuses in an id")


def check_unique(column: RawColumn, keys: pl.Series) -> None:
    """Each key of an entity table stands once; a second one names the row of the first."""
    frame = pl.DataFrame({"key": keys}).with_row_index("row", offset=1).filter(pl.col("key").is_not_null())
    repeated = frame.with_columns(first=pl.col("row").first().over("key")).filter(pl.col("row") != pl.col("first"))
    for row, key, first in repeated.head(MAX_EXAMPLES).select("row", "key", "first").iter_rows():
        column.log.add(column.file, f"{shown(key)} stands in row {first} already", row=row, column=column.name)
    if repeated.height > MAX_EXAMPLES:
        more = f"{repeated.height - MAX_EXAMPLES:,} more rows ({repeated.height:,} in all) repeat a key"
        column.log.add(column.file, more, column=column.name)


def check_label(column: RawColumn, flags: pl.Series) -> None:
    """A label that is the same everywhere teaches nothing; in a column with faults nothing can be said of it."""
    classes = flags.drop_nulls().unique()
    if len(flags) and len(classes) < 2 and not column.log.faulty(column.file, column.name):
        only = f"only {int(classes[0])}" if len(classes) else "no value"
        column.refuse(f"a label must hold both 0 and 1; this one holds {only} over {len(flags):,} rows")
