"""Tables into the online store: users, items and histories, in pipelined bulk.

A run writes a value for every user and item that the tables name, and a history for every user, an empty one where no event
counts; a second run over the same tables writes the same values, only later. Histories are merged into what live events have
made of them: what is kept is the newest of the union, where an event of the same user, item and time is the same event. So
neither the daily batch nor the live events lose anything, whichever comes first. Nothing is ever deleted: users and items that
have left the tables keep their last values, histories events that have left them. To drop an event, materialize with
``replace`` (live events that the tables lack are then gone, too); to drop all, under a new prefix, and point the readers there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Literal

import polars as pl

from feature_store.errors import MaterializeError, RecordRefusedError
from feature_store.keys import KeySpace
from feature_store.records import HistoryRecord, encode_features, encode_history, feature_record, history_record
from feature_store.redis.writer import RedisWriter
from feature_store.tables import HISTORY_EVENT, ITEM_KEY, TIME, USER_KEY, EntityTables
from feature_store.views import FeatureViews

_PIPELINE_KEYS = 500
_EVENT_COUNT = "@version"


@dataclass(frozen=True, slots=True)
class Materialized:
    """How many values of each kind a run wrote, as counted in the store afterwards, and as of which moment."""

    users: int
    items: int
    histories: int
    as_of: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Moments:
    """What the features stand for (in the data's own time), and when they are written (Unix seconds)."""

    as_of: float
    written_at: float


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of value: a frame with the owner first, and under which key a row goes."""

    name: Literal["users", "items", "histories"]
    key_of: Callable[[str], bytes]
    frame: pl.DataFrame


async def materialize(
    tables: EntityTables,
    views: FeatureViews,
    writer: RedisWriter,
    *,
    until: float | None = None,
    replace: bool = False,
    progress: Callable[[int], object] = lambda _: None,
    wall_clock: Callable[[], float] = time.time,
) -> Materialized:
    """Write all users, items and histories, count them in the store, and note the run under the meta key.

    Args:
        until: Only events strictly before this moment (in the unit of the time column) become history.
        replace: The tables' histories stand in the place of the stored ones, instead of being merged into them.
        progress: Told how many values were written since it was last told.

    Raises:
        MaterializeError: a value cannot be stored, or the store does not hold all that was written.
        StoreUnavailableError: the store does not answer; running again is safe.
    """
    started = time.perf_counter()
    moments = _Moments(_as_of(tables, until), wall_clock())
    kinds = _kinds(tables, views, writer.keys, until)
    for kind in kinds:
        if kind.name == "histories":
            await _merge(writer, kind.frame, moments, progress, length=views.history.length, replace=replace)
        else:
            await _write(writer, kind, moments, progress)
    counts = {kind.name: await _counted(writer, kind) for kind in kinds}
    done = Materialized(**counts, as_of=moments.as_of, seconds=time.perf_counter() - started)
    await writer.write_many([(writer.keys.meta, _meta(views, done))])
    return done


def values_to_write(tables: EntityTables) -> int:
    """How many values a run over the tables writes: the total of its progress."""
    return tables.users.height + tables.items.height + _all_users(tables).len()


def user_histories(tables: EntityTables, length: int, until: float | None = None) -> pl.DataFrame:
    """One row a user of either table: ``USER_KEY``, lists ``ITEM_KEY`` and ``TIME`` of the newest ``length`` events.

    Events are ordered by time, those of one moment by their place in the table; only rows that count as history, and lie
    strictly before ``until``, are events. ``@version`` counts all of a user's events.
    """
    events = tables.interactions.filter(pl.col(HISTORY_EVENT))
    if until is not None:
        events = events.filter(pl.col(TIME) < until)
    newest = (
        events.select(USER_KEY, ITEM_KEY, pl.col(TIME).cast(pl.Float64))
        .sort(TIME, maintain_order=True)
        .group_by(USER_KEY, maintain_order=True)
        .agg(pl.col(ITEM_KEY).tail(length), pl.col(TIME).tail(length), pl.len().alias(_EVENT_COUNT))
    )
    return _all_users(tables).to_frame().join(newest, on=USER_KEY, how="left", maintain_order="left")


async def write_history(writer: RedisWriter, user_id: str, items: Iterable[str], times: Iterable[float]) -> None:
    """Replace one user's history by these events, oldest first.

    Raises:
        RecordRefusedError: the events break a rule of histories.
        StoreUnavailableError: the store does not answer.
    """
    value = encode_history(history_record(user_id, items, times))
    await writer.write_many([(writer.keys.history(user_id), value)])


def _all_users(tables: EntityTables) -> pl.Series:
    """Every user once: those of the users table, then those that only interactions name."""
    return pl.concat([tables.users[USER_KEY], tables.interactions[USER_KEY]]).unique(maintain_order=True)


def _as_of(tables: EntityTables, until: float | None) -> float:
    """The moment the features stand for: of the data, not of the clock."""
    if until is not None:
        return until
    newest = tables.interactions[TIME].max()
    return float(newest) if isinstance(newest, int | float) else 0.0


def _kinds(tables: EntityTables, views: FeatureViews, keys: KeySpace, until: float | None) -> list[_Kind]:
    user_columns = [USER_KEY, *(field.name for field in views.user.fields)]
    item_columns = [ITEM_KEY, *(field.name for field in views.item.fields)]
    return [
        _Kind("items", keys.item, tables.items.select(item_columns)),
        _Kind("users", keys.user, tables.users.select(user_columns)),
        _Kind("histories", keys.history, user_histories(tables, views.history.length, until)),
    ]


def _encoded_features(frame: pl.DataFrame, moments: _Moments) -> Iterator[tuple[str, bytes]]:
    """Owner (the first column) and encoded features of every row; a missing value is left out."""
    names = frame.columns[1:]
    for owner, *values in frame.iter_rows():
        present = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        yield owner, encode_features(feature_record(owner, moments.as_of, present, written_at=moments.written_at))


def _history_records(frame: pl.DataFrame, moments: _Moments) -> Iterator[HistoryRecord]:
    for owner, items, times, version in frame.select(USER_KEY, ITEM_KEY, TIME, _EVENT_COUNT).iter_rows():
        record = history_record(owner, items or [], times or [], version=version or 0, written_at=moments.written_at)
        encode_history(record)  # refuses what readers would refuse
        yield record


async def _merge(
    writer: RedisWriter,
    frame: pl.DataFrame,
    moments: _Moments,
    progress: Callable[[int], object],
    *,
    length: int,
    replace: bool,
) -> None:
    records = _history_records(frame, moments)
    try:
        while batch := list(islice(records, _PIPELINE_KEYS)):
            await writer.merge_histories(batch, length, replace=replace)
            progress(len(batch))
    except RecordRefusedError as error:
        raise MaterializeError(f"{error} (shorten history.length)") from None


async def _write(writer: RedisWriter, kind: _Kind, moments: _Moments, progress: Callable[[int], object]) -> None:
    pairs = ((kind.key_of(owner), value) for owner, value in _encoded_features(kind.frame, moments))
    owners = iter(kind.frame.to_series(0))
    try:
        while batch := list(islice(pairs, _PIPELINE_KEYS)):
            await writer.write_many(batch)
            written = list(islice(owners, len(batch)))
            if kind.name == "items":
                await writer.item_changes.announce(written)  # all, changed or not: reading them again is cheap
            progress(len(batch))
    except RecordRefusedError as error:
        raise MaterializeError(f"{error} (shorten the value in its table)") from None


async def _counted(writer: RedisWriter, kind: _Kind) -> int:
    """How many of the keys the store holds.

    Raises:
        MaterializeError: fewer than were written.
    """
    keys = map(kind.key_of, kind.frame.to_series(0))
    held = 0
    while batch := list(islice(keys, _PIPELINE_KEYS)):
        held += await writer.count(batch)
    if held != kind.frame.height:
        raise MaterializeError(
            f"{kind.name}: {kind.frame.height} were written but the store holds {held}: does its maxmemory policy evict keys?"
        )
    return held


def _meta(views: FeatureViews, done: Materialized) -> bytes:
    state = {
        "schema": 1,
        "views": views.name,
        "users": done.users,
        "items": done.items,
        "histories": done.histories,
        "history_length": views.history.length,
        "as_of": done.as_of,
        "materialized_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(state, allow_nan=False).encode()
