"""The event log as training tables: the team's own rows, and what came live behind them, with the history as it was served.

Offline only: Polars is imported here. What the rows and columns mean: ``docs/event-log.md``.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from feature_store.errors import EventLogGapError, ExportError
from feature_store.events.base_histories import TableEvents
from feature_store.events.export_columns import context_values, joined_column, time_column_with
from feature_store.events.export_views import TABLES, ExportNames, export_names, exported_views_data, views_text
from feature_store.events.live_rows import LiveRow, live_rows
from feature_store.events.log import LogReading, first_of_each, relogged_users
from feature_store.events.served import Unserved
from feature_store.table_problems import TablesInvalidError
from feature_store.tables import HISTORY_EVENT, ITEM_KEY, REQUEST, SERVED, TIME, USER_KEY, EntityTables, read_tables
from feature_store.views import FeatureViews, ViewsError, load_views


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    ``examples`` of the ``events`` are rows to learn from, ``served`` of these carry their served history; ``unserved`` counts
    those that tell a version whose history is not known, by the reason. ``refused_values`` counts context values that their
    field does not accept, written as missing; ``gaps`` names what the log lacked.
    """

    events: int
    examples: int
    served: int
    unserved: Mapping[Unserved, int]
    refused_values: int
    gaps: tuple[str, ...]


def export_events(views_path: Path, out: Path, reading: LogReading, *, allow_gap: bool = False) -> Exported:
    """Write ``out``/{views.yaml, interactions.parquet, users.parquet, items.parquet}: all of it, or nothing.

    Raises:
        EventLogGapError: the log lacks events and ``allow_gap`` is false.
        ExportError: ``out`` is not free, the views declare no events, or the two kinds of rows do not fit one table.
        ViewsError, TablesInvalidError: the team's own views or tables cannot be used.
    """
    gaps = reading.gaps()
    if gaps and not allow_gap:
        raise EventLogGapError(gaps)
    views = load_views(views_path)
    if views.events is None:
        raise ExportError(f"{views_path}: the views declare no events: add an events block")
    tables = read_tables(views, views_path.parent)
    events = first_of_each(reading.entries)
    known = TableEvents(tables, events)
    base = known.beside_the_log(views.history.length)
    rows = known.once(live_rows(events, views.events, base, views.history.length, relogged_users(reading.entries)))
    with _appearing_whole(out) as folder:
        refused = _write(folder, views, views_path.parent, tables, rows)
    return _exported(rows, refused, gaps)


def _exported(rows: Sequence[LiveRow], refused: int, gaps: Sequence[str]) -> Exported:
    examples = [row for row in rows if row.example]
    unserved = Counter(row.unserved for row in examples if row.unserved is not None)
    return Exported(len(rows), len(examples), sum(row.served is not None for row in examples), unserved, refused, tuple(gaps))


@contextmanager
def _appearing_whole(out: Path) -> Iterator[Path]:
    """A folder to write into that becomes ``out`` at the end, and is gone after a failure.

    Raises:
        ExportError: ``out`` is there and not an empty folder, or cannot be written.
    """
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ExportError(f"{out}: there is something already; name a new folder")
        staging = out.parent / f".{out.name}-{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        try:
            yield staging
            staging.replace(out)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    except OSError as error:
        raise ExportError(f"{out}: {error.strerror or error}") from None


def _write(folder: Path, views: FeatureViews, source: Path, tables: EntityTables, rows: Sequence[LiveRow]) -> int:
    """Write the four files and read them back; gives the number of refused context values."""
    raw = _raw_table(source / views.tables.interactions)
    names = export_names(views, raw.columns)
    frame, refused = _interactions(raw, views, names, tables.interactions, rows)
    frame.write_parquet(folder / TABLES["interactions"])
    _raw_table(source / views.tables.users).write_parquet(folder / TABLES["users"])
    _raw_table(source / views.tables.items).write_parquet(folder / TABLES["items"])
    data = exported_views_data(views, names)
    path = folder / "views.yaml"
    path.write_text(views_text(data), encoding="utf-8")
    try:
        written = load_views(path)
        if written.model_dump(mode="json", exclude_unset=True) != data:
            raise ExportError("the views cannot be written so that they read the same")
        read_tables(written, folder)
    except (ViewsError, TablesInvalidError) as error:
        raise ExportError(f"the tables would not be usable:\n{str(error).replace(f'{folder}/', '')}") from None
    return refused


def _raw_table(path: Path) -> pl.DataFrame:
    """Every column of a table that ``read_tables`` accepted; those of a CSV as text."""
    if path.suffix.lower() == ".csv":
        return pl.read_csv(path, infer_schema=False, glob=False)
    return pl.read_parquet(path, glob=False, hive_partitioning=False)


def _interactions(
    raw: pl.DataFrame, views: FeatureViews, names: ExportNames, base: pl.DataFrame, rows: Sequence[LiveRow]
) -> tuple[pl.DataFrame, int]:
    """The team's rows, then the live ones; columns that neither role nor event fills are null in these."""
    context, refused = _context_columns(views, names, base, rows)
    columns = _columns_of_roles(raw, views, names, base, rows) | _columns_of_events(raw, views, rows) | context
    for name in raw.columns:
        if name not in columns:
            columns[name] = raw[name].extend_constant(None, len(rows))
    order = [*raw.columns, *(name for name in columns if name not in raw.columns)]
    return pl.DataFrame([columns[name].alias(name) for name in order]), refused


def _columns_of_roles(
    raw: pl.DataFrame, views: FeatureViews, names: ExportNames, base: pl.DataFrame, rows: Sequence[LiveRow]
) -> dict[str, pl.Series]:
    """Keys, time, request, and what each row says of histories."""
    events = [row.event for row in rows]
    roles = views.interactions
    lists = pl.List(pl.String)
    served = base[SERVED] if SERVED in base.columns else pl.repeat(None, base.height, dtype=lists, eager=True)
    columns = {
        views.user.key: pl.concat([base[USER_KEY], pl.Series([event.user_id for event in events], dtype=pl.String)]),
        views.item.key: pl.concat([base[ITEM_KEY], pl.Series([event.item_id for event in events], dtype=pl.String)]),
        roles.time: time_column_with(roles.time, raw[roles.time], base[TIME], [event.time for event in events]),
        names.in_history: pl.concat([base[HISTORY_EVENT], pl.Series([row.in_history for row in rows], dtype=pl.Boolean)]),
        names.served: pl.concat([served, pl.Series([row.served for row in rows], dtype=lists)]),
    }
    if roles.request is not None:
        columns[roles.request] = pl.concat([base[REQUEST], pl.Series([row.request for row in rows], dtype=pl.String)])
    return columns


def _columns_of_events(raw: pl.DataFrame, views: FeatureViews, rows: Sequence[LiveRow]) -> dict[str, pl.Series]:
    """The columns that the declared types write."""
    declared = sorted({column for kind in (views.events.types if views.events else ()) for column in kind.columns})
    columns = {}
    for name in declared:
        live = [row.columns.get(name) for row in rows]
        base = raw[name] if name in raw.columns else pl.repeat(None, raw.height, dtype=pl.Null(), eager=True)
        columns[name] = joined_column(name, base, live)
    return columns


def _context_columns(
    views: FeatureViews, names: ExportNames, base: pl.DataFrame, rows: Sequence[LiveRow]
) -> tuple[dict[str, pl.Series], int]:
    columns, refused = {}, 0
    for field in views.context:
        live, wrong = context_values(field, [row.context.get(field.name) for row in rows])
        columns[names.context[field.name]] = pl.concat([base[field.name], live])
        refused += wrong
    return columns, refused
