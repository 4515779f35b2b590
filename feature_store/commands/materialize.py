"""``python -m feature_store materialize VIEWS.yaml``: fill the online store from a team's tables."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from feature_store.commands.store_url import add_store_options, store_url
from feature_store.errors import FeatureStoreError
from feature_store.keys import KeySpace
from feature_store.materialize import Materialized, materialize, values_to_write
from feature_store.redis.writer import RedisWriter
from feature_store.table_problems import TablesInvalidError
from feature_store.tables import EntityTables, read_tables
from feature_store.views import FeatureViews, ViewsError, load_views


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("views", type=Path, metavar="VIEWS.yaml", help="the feature views; tables are relative to this file")
    add_store_options(parser)
    parser.add_argument(
        "--until",
        type=_moment,
        metavar="VALUE",
        help="only events strictly before: a number as in the time column, or ISO 8601",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="histories stand in the place of the stored ones (default: merged; live events that the tables lack are kept)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; 0 when everything is in the store, 1 with the reason on stderr."""
    try:
        views = load_views(options.views)
        tables = read_tables(views, options.views.parent)
        with store_url(options, create=True) as url:
            done = asyncio.run(_materialize(tables, views, url, options))
    except (ViewsError, TablesInvalidError, FeatureStoreError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"materialized {views.name} under {options.prefix}: {done.users:,} users, {done.items:,} items, "
        f"{done.histories:,} histories as of {done.as_of:.15g}, counted in the store, {done.seconds:.1f} s"
    )
    return 0


def _moment(text: str) -> float:
    """A number in the time column's unit, or a date-time (UTC unless it says otherwise) as seconds since 1970."""
    try:
        number = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise argparse.ArgumentTypeError("a number or an ISO 8601 date-time is needed") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError("a finite number is needed")
    return number


async def _materialize(tables: EntityTables, views: FeatureViews, url: str, options: argparse.Namespace) -> Materialized:
    writer = RedisWriter.from_url(url, keys=KeySpace(options.prefix))
    try:
        with tqdm(total=values_to_write(tables), desc="materialize", unit="value", disable=None) as bar:
            return await materialize(tables, views, writer, until=options.until, replace=options.replace, progress=bar.update)
    finally:
        await writer.close()
