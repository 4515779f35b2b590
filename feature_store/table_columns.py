"""Raw columns to canonical ones: text, lists of text, Float64, times, flags. Nothing is guessed and nothing is repaired.

Each function returns a series as long as the column, or None when the column's type cannot serve; the reasons go to the
column's log. Empty text and empty lists mean missing (null), in CSV and Parquet alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from feature_store.table_problems import ProblemLog
from feature_store.views import Condition

LARGEST_EXACT_INTEGER = 1 << 53
"""Beyond it doubles, and so JSON and the online store, cannot tell neighbouring integers apart."""
_LARGEST_EXACT_FLOAT32 = 1 << 24
_MICROSECONDS = 1_000_000
ID_SEPARATOR = "|"
"""Between the ids of a list in a CSV; an id that holds it needs Parquet."""
_TRUE_TEXTS = ("1", "1.0", "true", "True", "TRUE")
_FALSE_TEXTS = ("0", "0.0", "false", "False", "FALSE")


@dataclass(frozen=True, slots=True)
class RawColumn:
    """A column as its file holds it, and where to say what is wrong with it."""

    file: str
    name: str
    values: pl.Series
    log: ProblemLog

    def refuse_rows(self, bad: pl.Series, reason: str) -> None:
        """Note the rows where ``bad`` is true."""
        self.log.add_rows(self.file, self.name, bad, self.values, reason)

    def refuse(self, reason: str) -> None:
        """Note a fault of the whole column."""
        self.log.add(self.file, reason, column=self.name)


def text_column(column: RawColumn) -> pl.Series | None:
    """Keys and categories as String: the same text as ``feature_store.encoding.values.category_text``."""
    dtype = column.values.dtype
    if dtype.is_float() or dtype.is_decimal():
        column.refuse(
            f"{dtype} cannot be a key or a category: write integers or text "
            "(pandas makes floats of integers with gaps; its Int64 does not)"
        )
        return None
    if dtype.is_temporal() or dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        column.refuse(f"{dtype} cannot be a key or a category: write integers or text")
        return None
    return _empty_is_null(column.values.cast(pl.String))


def categories_column(column: RawColumn, separator: str | None) -> pl.Series | None:
    """Several categories a row as List(String): a list column, or text split at ``separator``; empty parts are dropped."""
    values = column.values
    if isinstance(values.dtype, pl.List | pl.Array):
        inner = values.dtype.inner
        if not (inner in (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Null) or inner.is_integer()):
            column.refuse(f"{values.dtype} cannot be categories: write lists of integers or text")
            return None
        parts = values.cast(pl.List(pl.String))
    elif separator is None:
        column.refuse("text needs a separator in the views (separator: '|'), or a list column in Parquet")
        return None
    else:
        text = text_column(column)
        if text is None:
            return None
        parts = text.str.split(separator)
    element = pl.element()
    kept = parts.list.eval(element.filter(element.is_not_null() & (element != "")))
    return kept.set(kept.list.len() == 0, None)


def ids_column(column: RawColumn) -> pl.Series | None:
    """Ids, several a row, as List(String): a list column, or text split at ``ID_SEPARATOR``.

    Unlike categories, a list without ids is a value: nothing was there. Text says so by the separator alone; empty text is
    null.
    """
    values = column.values
    if values.dtype == pl.Null:
        return values.cast(pl.List(pl.String))
    if values.dtype == pl.String:
        text = _empty_is_null(values)
        nothing = pl.Series([[]], dtype=pl.List(pl.String))
        return text.str.split(ID_SEPARATOR).zip_with((text != ID_SEPARATOR).fill_null(value=True), nothing)
    if isinstance(values.dtype, pl.List | pl.Array):
        inner = values.dtype.inner
        if inner in (pl.String, pl.Categorical, pl.Enum, pl.Null) or inner.is_integer():
            return values.cast(pl.List(pl.String))
    column.refuse(
        f"{values.dtype} cannot be lists of ids: write lists of integers or text, or text with {ID_SEPARATOR!r} between"
    )
    return None


def number_column(column: RawColumn) -> pl.Series | None:
    """Numbers as Float64, null where missing; NaN, infinities and anything unparsable are refused."""
    values = column.values
    if values.dtype == pl.String:
        values = _empty_is_null(values)
        numbers = values.cast(pl.Float64, strict=False)
        column.refuse_rows(values.is_not_null() & numbers.is_null(), "is not a number")
    elif values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null):
        numbers = values.cast(pl.Float64)
    else:
        column.refuse(f"{values.dtype} cannot be a number: write integers or floats")
        return None
    column.refuse_rows(~numbers.is_finite(), "is not finite; leave the cell empty (null) where the number is missing")
    return numbers


def time_column(column: RawColumn) -> pl.Series | None:
    """Times as Int64 or Float64, never null. Date-times become Float64 seconds since 1970 (UTC unless they say otherwise).

    A double holds the microseconds of such seconds; nanoseconds are rounded. Text is read as integers, floats or ISO
    8601 date-times, whichever fits the most rows; the others are refused.
    """
    column.refuse_rows(column.values.is_null(), "is no time: every interaction needs one")
    dtype = column.values.dtype
    if dtype == pl.String:
        return _time_from_text(column)
    if dtype.is_integer():
        return _exact_integers(column, column.values.cast(pl.Int64, strict=False))
    if dtype.is_float():
        return _time_from_floats(column)
    if dtype in (pl.Date, pl.Datetime):
        return _epoch_seconds(column.values.cast(pl.Datetime("us")))
    column.refuse(f"{dtype} cannot be a time: write integers, floats or date-times")
    return None


def holds_date_times(column: RawColumn) -> bool:
    """Whether ``time_column`` reads the column as date-times, or as text that is no number anywhere."""
    dtype = column.values.dtype
    if dtype == pl.String:
        return column.values.cast(pl.Float64, strict=False).null_count() == len(column.values)
    return dtype in (pl.Date, pl.Datetime)


def flag_column(column: RawColumn, condition: Condition) -> pl.Series | None:
    """Where the condition holds, as Boolean; null where the column is null."""
    if condition.at_least is not None:
        numbers = number_column(column)
        return None if numbers is None else numbers >= condition.at_least
    if isinstance(condition.equals, str):
        text = text_column(column)
        return None if text is None else text == condition.equals
    if condition.equals is None or isinstance(condition.equals, bool):
        truth = _truth_column(column)
        return truth if truth is None or condition.equals is not False else ~truth
    return _equals_integer(column, condition.equals)


def _empty_is_null(text: pl.Series) -> pl.Series:
    return text.set(text == "", None)


def _truth_column(column: RawColumn) -> pl.Series | None:
    values = column.values
    if values.dtype == pl.Boolean:
        return values
    if values.dtype == pl.String:
        values = _empty_is_null(values)
        true, known = values.is_in(_TRUE_TEXTS), values.is_in(_TRUE_TEXTS + _FALSE_TEXTS)
    elif values.dtype.is_numeric():
        true, known = values == 1, (values == 0) | (values == 1)
    else:
        column.refuse(f"{values.dtype} cannot be a label or flag: write 0/1 or true/false")
        return None
    column.refuse_rows(values.is_not_null() & ~known.fill_null(value=False), "is neither 0/1 nor true/false")
    return true.set(values.is_null(), None)


def _equals_integer(column: RawColumn, wanted: int) -> pl.Series | None:
    values = column.values
    if values.dtype == pl.String:
        values = _empty_is_null(values)
        return (values.cast(pl.Float64, strict=False) == wanted).fill_null(value=False).set(values.is_null(), None)
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        return values.cast(pl.Float64) == wanted
    column.refuse(f"{values.dtype} cannot equal an integer: write integers or text")
    return None


def _exact_integers(column: RawColumn, times: pl.Series) -> pl.Series:
    beyond = times.is_null() | (times > LARGEST_EXACT_INTEGER) | (times < -LARGEST_EXACT_INTEGER)
    column.refuse_rows(column.values.is_not_null() & beyond, "is beyond 2**53: write times in microseconds or coarser")
    return times


def _time_from_floats(column: RawColumn) -> pl.Series:
    times = column.values.cast(pl.Float64)
    column.refuse_rows(~times.is_finite(), "is not a finite time")
    if column.values.dtype == pl.Float32:
        column.refuse_rows(times.abs() > _LARGEST_EXACT_FLOAT32, "is rounded by its type Float32: write times as Float64")
    return times


def _time_from_text(column: RawColumn) -> pl.Series:
    values = _empty_is_null(column.values)
    column.refuse_rows(values.is_null(), "is no time: every interaction needs one")
    integers = values.cast(pl.Int64, strict=False)
    if integers.null_count() == values.null_count():
        return _exact_integers(column, integers)
    floats = values.cast(pl.Float64, strict=False)
    dates = _epoch_seconds(_parse_date_times(values))
    times = floats if floats.null_count() <= dates.null_count() else dates
    column.refuse_rows(values.is_not_null() & times.is_null(), "is not a time like those of the other rows")
    column.refuse_rows(~times.is_finite(), "is not a finite time")
    return times


def _parse_date_times(text: pl.Series) -> pl.Series:
    """ISO 8601 date-times, with or without seconds, fraction and offset; null where the text is none."""
    plain = text.str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
    zoned = plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_unit="us", strict=False).dt.replace_time_zone(None)
    parsed = [zoned]
    for pattern in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d"):
        parsed.append(plain.str.to_datetime(pattern, time_unit="us", strict=False))
    return pl.select(pl.coalesce(parsed)).to_series()


def _epoch_seconds(moments: pl.Series) -> pl.Series:
    """Correctly rounded, as the time of a live event is: Polars divides by a constant as by a reciprocal, an ulp beside."""
    microseconds = moments.cast(pl.Datetime("us")).dt.epoch("us")
    seconds = pl.Series(moments.name, microseconds.fill_null(0).to_numpy() / _MICROSECONDS)
    return seconds.set(microseconds.is_null(), None)
