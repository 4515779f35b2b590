"""Columns of a team's table made longer by live values, in one type that reads as both did before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl
from polars.exceptions import PolarsError

from feature_store.encoding.values import RawValue, ValueRefusedError, category_text, number_value
from feature_store.errors import ExportError
from feature_store.events.live_rows import ColumnValue
from feature_store.table_columns import LARGEST_EXACT_INTEGER
from feature_store.views import CategoriesField, ContextField, NumberField

_MICROSECONDS = 1_000_000
_EXACT = (-LARGEST_EXACT_INTEGER, LARGEST_EXACT_INTEGER)
_TEXT = (pl.String, pl.Categorical, pl.Enum)


def joined_column(name: str, base: pl.Series, live: Sequence[ColumnValue | None]) -> pl.Series:
    """A column that conditions read: the team's values, then the live ones.

    Text stays text and takes numbers as text; truth values and integers become wider numbers where a live value asks for it.

    Raises:
        ExportError: no type holds both without changing what one of them means.
    """
    dtype = _common_dtype(name, base, [value for value in live if value is not None])
    try:
        head = base.cast(dtype)
    except PolarsError:
        raise ExportError(f"column {name!r}: its {base.dtype} and live values have no type in common") from None
    if dtype == pl.String:
        tail = pl.Series([_text(value) for value in live], dtype=dtype)
    elif dtype.is_numeric() or dtype == pl.Boolean:
        tail = pl.Series([None if value is None else float(value) for value in live], dtype=pl.Float64).cast(dtype)
    else:
        tail = pl.Series([None] * len(live), dtype=dtype)
    return pl.concat([head, tail]).alias(name)


def time_column_with(name: str, raw: pl.Series, canonical: pl.Series, live: Sequence[float]) -> pl.Series:
    """The time column: in the type of the team's own where that holds every live time, in microseconds at the coarsest.

    Else, and where the team's is text, the canonical numbers; all of them floats where a live time is no whole number.
    """
    if raw.dtype in (pl.Date, pl.Datetime):
        ticks = [round(time * _MICROSECONDS) for time in live]
        if all(tick / _MICROSECONDS == time for tick, time in zip(ticks, live, strict=True)):
            return pl.concat([raw.cast(pl.Datetime("us")), pl.Series(ticks, dtype=pl.Int64).cast(pl.Datetime("us"))]).alias(
                name
            )
    whole = all(time.is_integer() and abs(time) <= LARGEST_EXACT_INTEGER for time in map(float, live))
    dtype = canonical.dtype if whole else pl.Float64()
    return pl.concat([canonical.cast(dtype), pl.Series(live, dtype=pl.Float64).cast(dtype)]).alias(name)


def context_values(field: ContextField, values: Sequence[RawValue]) -> tuple[pl.Series, int]:
    """What requests brought, as the field's canonical column; what its kind does not accept is missing, and counted."""
    kept, refused = [], 0
    for value in values:
        try:
            kept.append(_canonical(field, value))
        except ValueRefusedError:
            kept.append(None)
            refused += 1
    dtype = pl.Float64() if isinstance(field, NumberField) else pl.String()
    return pl.Series(kept, dtype=pl.List(dtype) if isinstance(field, CategoriesField) else dtype), refused


def _canonical(field: ContextField, value: RawValue) -> str | float | list[str] | None:
    if value is None or value == "":
        return None
    if isinstance(field, NumberField):
        number = number_value(value)
        return None if math.isnan(number) else number
    if not isinstance(field, CategoriesField):
        return category_text(value)
    if not isinstance(value, list | tuple):
        raise ValueRefusedError("a list of categories is needed")
    return [category_text(part) for part in value if part != ""] or None


def _common_dtype(name: str, base: pl.Series, values: Sequence[ColumnValue]) -> pl.DataType:
    if not values:
        return base.dtype
    if base.null_count() == len(base):
        return _live_dtype(name, values)
    if base.dtype in _TEXT:
        return pl.String()
    text = next((value for value in values if isinstance(value, str)), None)
    if text is not None or not (base.dtype.is_numeric() or base.dtype == pl.Boolean) or base.dtype.is_decimal():
        what = f"numbers such as {values[0]}" if text is None else f"text such as {text[:60]!r}"
        raise ExportError(f"column {name!r}: the table holds {base.dtype} there, and live events write {what}")
    if base.dtype == pl.Boolean and all(value in (0, 1) for value in values):
        return pl.Boolean()
    if base.dtype.is_float():
        return pl.Float64()
    dtype = _number_dtype(name, values)
    if dtype == pl.Float64 and base.dtype.is_integer() and not base.drop_nulls().is_between(*_EXACT).all():
        raise ExportError(f"column {name!r}: the table's integers are beyond 2**53, and live events write fractions")
    return dtype


def _live_dtype(name: str, values: Sequence[ColumnValue]) -> pl.DataType:
    """Of a column that only live values fill."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return pl.Boolean()
    if kinds == {str}:
        return pl.String()
    if str in kinds:
        raise ExportError(f"column {name!r}: live events write both text and numbers into it")
    return _number_dtype(name, values)


def _number_dtype(name: str, values: Sequence[ColumnValue]) -> pl.DataType:
    if any(isinstance(value, int) and abs(value) > LARGEST_EXACT_INTEGER for value in values):
        raise ExportError(f"column {name!r}: live events write integers beyond 2**53")
    whole = all(float(value).is_integer() and abs(float(value)) <= LARGEST_EXACT_INTEGER for value in values)
    return pl.Int64() if whole else pl.Float64()


def _text(value: ColumnValue | None) -> str | None:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return None if value is None else category_text(value)
