"""What must hold of canonical keys, lists of ids, times and labels beyond their type."""

from __future__ import annotations

import numpy as np
import polars as pl

from feature_store.event_types import Events
from feature_store.table_columns import RawColumn, holds_date_times
from feature_store.table_problems import MAX_EXAMPLES, shown

MAX_KEY_BYTES = 256
"""Longest user, item or request id in UTF-8 bytes; the service refuses longer ones too."""
MAX_IDS = 10_000
"""Most ids in one list: the longest history that views can declare."""


def check_key(column: RawColumn, keys: pl.Series) -> None:
    """Keys are present, and such that the service accepts them as ids: short enough, every character printable."""
    column.refuse_rows(keys.is_null(), "is no key")
    column.refuse_rows(keys.str.len_bytes() > MAX_KEY_BYTES, f"is longer than {MAX_KEY_BYTES} UTF-8 bytes")
    unprintable = [key for key in keys.unique().drop_nulls().to_list() if not key.isprintable()]
    column.refuse_rows(keys.is_in(unprintable), "holds control or invisible characters, which the service refuses in an id")


def check_ids(column: RawColumn, lists: pl.Series) -> None:
    """Each id of each list is such as ``check_key`` accepts, and no list is longer than a history may be."""
    column.refuse_rows(lists.list.len() > MAX_IDS, f"holds more than {MAX_IDS:,} ids")
    column.refuse_rows(_any_in(lists, pl.element().is_null() | (pl.element() == "")), "holds an empty id")
    too_long = pl.element().str.len_bytes() > MAX_KEY_BYTES
    column.refuse_rows(_any_in(lists, too_long), f"holds an id longer than {MAX_KEY_BYTES} UTF-8 bytes")
    distinct = lists.drop_nulls().explode().unique().drop_nulls().to_list()
    unprintable = [each for each in distinct if not each.isprintable()]
    if unprintable:
        column.refuse_rows(_any_in(lists, pl.element().is_in(unprintable)), "holds an id with control or invisible characters")


def _any_in(lists: pl.Series, test: pl.Expr) -> pl.Series:
    return lists.list.eval(test.fill_null(value=False)).list.any()


def check_unique(column: RawColumn, keys: pl.Series) -> None:
    """Each key of an entity table stands once; a second one names the row of the first."""
    frame = pl.DataFrame({"key": keys}).with_row_index("row", offset=1).filter(pl.col("key").is_not_null())
    repeated = frame.with_columns(first=pl.col("row").first().over("key")).filter(pl.col("row") != pl.col("first"))
    for row, key, first in repeated.head(MAX_EXAMPLES).select("row", "key", "first").iter_rows():
        column.log.add(column.file, f"{shown(key)} stands in row {first} already", row=row, column=column.name)
    if repeated.height > MAX_EXAMPLES:
        more = f"{repeated.height - MAX_EXAMPLES:,} more rows ({repeated.height:,} in all) repeat a key"
        column.log.add(column.file, more, column=column.name)


def check_times(column: RawColumn, times: pl.Series, events: Events) -> None:
    """A live event must have the very time that the table has of it; else a materialization takes one event for two.

    Live times are floored to the resolution, so the table's must be multiples of it, as doubles are.
    """
    if events.time_unit != "s" and holds_date_times(column):
        column.refuse(f"date-times are seconds: events.time_unit must be s, not {events.time_unit}")
        return
    finest = _no_multiples(times, events, 1)
    column.refuse_rows(finest, "is finer than microseconds, which no live event's time is: round the table's times to them")
    resolution = events.time_resolution or events.time_unit
    column.refuse_rows(
        _no_multiples(times, events, events.resolution_us) & ~finest,
        f"is finer than events.time_resolution ({resolution}), to which live events are floored: the same event, sent live, "
        "would stand in the history a second time; set events.time_resolution: us",
    )


def _no_multiples(times: pl.Series, events: Events, step_us: int) -> pl.Series:
    if times.dtype.is_integer():
        return pl.repeat(value=False, n=len(times), eager=True)  # a step is never longer than the unit
    steps_per_unit = 1e6 / events.units_per_s / step_us
    values = times.fill_null(0.0).to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are refused elsewhere
        return pl.Series(np.rint(values * steps_per_unit) / steps_per_unit != values)


def check_label(column: RawColumn, flags: pl.Series) -> None:
    """A label that is the same everywhere teaches nothing; in a column with faults nothing can be said of it."""
    classes = flags.drop_nulls().unique()
    if len(flags) and len(classes) < 2 and not column.log.faulty(column.file, column.name):
        only = f"only {int(classes[0])}" if len(classes) else "no value"
        column.refuse(f"a label must hold both 0 and 1; this one holds {only} over {len(flags):,} rows")
