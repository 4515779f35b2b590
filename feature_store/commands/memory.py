"""``python -m feature_store memory VIEWS.yaml``: what users, items, histories and live events cost, on a server of its own.

Records are made from a sample of the tables' rows, written as ``materialize`` writes them, and asked for by ``MEMORY USAGE``,
which counts the key, the value and the server's bookkeeping for both. The server and its data are gone afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from feature_store.embedded import EmbeddedStore
from feature_store.errors import FeatureStoreError
from feature_store.keys import KeySpace
from feature_store.live_memory import Cost, live_costs
from feature_store.records import encode_features, encode_history, feature_record, history_record
from feature_store.redis.inspection import RedisInspection
from feature_store.redis.writer import RedisWriter
from feature_store.table_problems import TablesInvalidError
from feature_store.tables import ITEM_KEY, USER_KEY, EntityTables, read_tables
from feature_store.views import Entity, ViewsError, load_views

_SECONDS_2026 = 1_767_225_600.0
_SECONDS_BETWEEN = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("views", type=Path, metavar="VIEWS.yaml", help="the feature views; tables are relative to this file")
    parser.add_argument("--sample", type=int, default=1_000, metavar="N", help="records of each kind (%(default)s)")
    parser.add_argument(
        "--events", type=int, nargs="+", default=[50, 200], metavar="N", help="lengths of the histories (50 200)"
    )
    parser.add_argument(
        "--live", type=int, nargs="+", default=[20, 200, 5_000], metavar="N", help="live events of a user (20 200 5000)"
    )


def run(options: argparse.Namespace) -> int:
    """Print a Markdown table; 1 with the reason on stderr."""
    try:
        views = load_views(options.views)
        tables = read_tables(views, options.views.parent)
        with tempfile.TemporaryDirectory() as folder, EmbeddedStore(Path(folder)) as store:
            kinds = _kinds(tables, views.user, views.item, max(1, options.sample), options.events)
            costs = asyncio.run(_measure(store.url, kinds))
            if views.events is not None:
                costs += asyncio.run(live_costs(store.url, views, options.live))
    except (ViewsError, TablesInvalidError, FeatureStoreError) as error:
        print(error, file=sys.stderr)
        return 1
    print("| record | measured | value, mean bytes | in memory, mean bytes | in memory, highest |\n|---|---|---|---|---|")
    for cost in costs:
        value = "" if cost.value_bytes is None else f"{cost.value_bytes:,.0f}"
        print(f"| {cost.what} | {cost.records:,} | {value} | {cost.memory_bytes:,.0f} | {cost.most:,} |")
    return 0


Pairs = list[tuple[bytes, bytes]]


def _kinds(
    tables: EntityTables, user: Entity, item: Entity, sample: int, lengths: Sequence[int]
) -> Iterator[tuple[str, Pairs]]:
    """Each kind of record with keys and values, made from rows of the tables and a fixed seed."""
    keys, draw = KeySpace(), random.Random(0)
    users = tables.users.sample(min(sample, tables.users.height), seed=0)
    items = tables.items.sample(min(sample, tables.items.height), seed=0)
    yield "user, features", [(keys.user(owner), value) for owner, value in _features(users, USER_KEY, user)]
    yield "item, features", [(keys.item(owner), value) for owner, value in _features(items, ITEM_KEY, item)]
    item_ids, user_ids = tables.items[ITEM_KEY].to_list(), users[USER_KEY].to_list()
    for length in lengths if item_ids else ():
        times = [_SECONDS_2026 + _SECONDS_BETWEEN * place for place in range(length)]
        pairs = [
            (keys.history(owner), encode_history(history_record(owner, draw.choices(item_ids, k=length), times)))
            for owner in user_ids
        ]
        yield f"user, history of {length:,} events", pairs


def _features(frame: pl.DataFrame, key: str, entity: Entity) -> Iterator[tuple[str, bytes]]:
    names = [field.name for field in entity.fields]
    for owner, *values in frame.select(key, *names).iter_rows():
        present = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        yield owner, encode_features(feature_record(owner, _SECONDS_2026, present))


async def _measure(url: str, kinds: Iterator[tuple[str, Pairs]]) -> list[Cost]:
    writer, inspection = RedisWriter.from_url(url), RedisInspection.from_url(url)
    try:
        costs = []
        for what, pairs in kinds:
            if pairs:
                await writer.write_many(pairs)
                in_memory = [await inspection.memory_bytes(key) or 0 for key, _ in pairs]
                value_bytes = statistics.fmean(len(value) for _, value in pairs)
                costs.append(Cost(what, len(pairs), value_bytes, statistics.fmean(in_memory), max(in_memory)))
        return costs
    finally:
        await writer.close()
        await inspection.close()
