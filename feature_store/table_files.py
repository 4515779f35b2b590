"""A CSV or Parquet file to a raw Polars frame. Any bytes give a frame or a named problem, never a traceback.

CSV cells arrive as text, so that ids keep their leading zeros and nothing is guessed; Parquet columns keep their types.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from feature_store.table_problems import MAX_EXAMPLES, ProblemLog

_COLUMNS_SHOWN = 40
_HEAD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class RawTable:
    """The wanted columns that the file has, unconverted; ``present`` names all its columns."""

    file: str
    frame: pl.DataFrame
    present: tuple[str, ...]


def read_raw_table(path: Path, wanted: Collection[str], log: ProblemLog) -> RawTable | None:
    """Read the ``wanted`` columns of a file by its ending; None when it cannot be read at all (noted in ``log``)."""
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    file = str(path)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        log.add(file, "the name must end in .csv or .parquet")
        return None
    try:
        if not path.is_file():
            log.add(file, "is not a file" if path.exists() else "no such file")
            return None
        table = reader(path, wanted, log)
    except OSError as error:
        log.add(file, error.strerror or str(error))
        return None
    except (PolarsError, PanicException) as error:
        log.add(file, f"cannot be read as {path.suffix.lower()}: {_first_line(error)}")
        return None
    if table is not None and table.frame.columns and table.frame.is_empty():
        log.add(file, "the table has no rows")
    return table


def missing_column_reason(table: RawTable) -> str:
    """Why a wanted column is a problem: the columns that are there, quoted so that stray blanks show."""
    names = ", ".join(map(repr, table.present[:_COLUMNS_SHOWN]))
    more = len(table.present) - _COLUMNS_SHOWN
    return f"no such column; the file has {names}{f' and {more} more' if more > 0 else ''}"


def _read_parquet(path: Path, wanted: Collection[str], _: ProblemLog) -> RawTable:
    # A file that ends early is told. One whose bytes were altered inside may claim sizes that no machine has: Polars then
    # ends the process, and nothing here can hold it.
    present = tuple(pl.read_parquet_schema(path))
    columns = [name for name in present if name in wanted]
    frame = pl.read_parquet(path, columns=columns, glob=False, hive_partitioning=False)
    return RawTable(str(path), frame, present)


def _read_csv(path: Path, wanted: Collection[str], log: ProblemLog) -> RawTable | None:
    shape = _check_csv_shape(path, log)
    if shape is None:
        return None
    present, rows = shape
    columns = [name for name in present if name in wanted]
    if not columns:
        return RawTable(str(path), pl.DataFrame(), present)
    frame = pl.read_csv(path, columns=columns, infer_schema=False, glob=False)
    if frame.height != rows:
        found = f"{rows:,} rows by its quotes, {frame.height:,} by its lines"
        log.add(str(path), f"{found}: check the quotes and the line ends")
        return None
    return RawTable(str(path), frame.select(columns), present)


def _check_csv_shape(path: Path, log: ProblemLog) -> tuple[tuple[str, ...], int] | None:
    """Header and row count. Polars fills short rows with nulls, so each row's width is checked here first."""
    file = str(path)
    if _ends_lines_with_cr(path):
        log.add(file, "its lines end in \\r alone: write \\n or \\r\\n")
        return None
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines, strict=True)
        try:
            header = tuple(next(rows, ()))
            return _check_csv_rows(file, header, rows, log)
        except csv.Error as error:
            log.add(file, f"line {rows.line_num}: {error} (check the quotes)")
        except UnicodeDecodeError:
            log.add(file, f"line {_first_line_not_utf8(path)} is not UTF-8 (Latin-1, perhaps): save the file as UTF-8")
    return None


def _check_csv_rows(
    file: str, header: tuple[str, ...], rows: Iterator[list[str]], log: ProblemLog
) -> tuple[tuple[str, ...], int] | None:
    if not header:
        log.add(file, "the file is empty: its first line must name the columns")
        return None
    twice = [name for name, count in Counter(header).items() if count > 1]
    for name in twice:
        log.add(file, "the header names this column twice", column=name)
    count, width, ragged = 0, len(header), 0
    for count, row in enumerate(rows, start=1):
        if len(row) != width:
            ragged += 1
            if ragged <= MAX_EXAMPLES:
                reason = f"{len(row)} cells where the header has {width}" if row else "the line is empty"
                log.add(file, reason, row=count)
    if ragged > MAX_EXAMPLES:
        log.add(file, f"{ragged - MAX_EXAMPLES:,} more rows ({ragged:,} in all) with another number of cells than the header")
    return None if ragged or twice else (header, count)


def _ends_lines_with_cr(path: Path) -> bool:
    """Old Mac files, which Python's csv reads as rows and Polars as one line."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return b"\r" in head and b"\n" not in head


def _first_line_not_utf8(path: Path) -> int:
    """The line, counted from 1, that stopped the text decoder."""
    with path.open("rb") as lines:
        return next((number for number, line in enumerate(lines, start=1) if not _is_utf8(line)), 0)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
