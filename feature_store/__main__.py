"""``python -m feature_store materialize VIEWS.yaml``: fill the online store from a team's tables."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from feature_store.embedded import EmbeddedStore
from feature_store.errors import FeatureStoreError
from feature_store.keys import DEFAULT_PREFIX, KeySpace
from feature_store.materialize import Materialized, materialize, values_to_write
from feature_store.redis.writer import RedisWriter
from feature_store.table_problems import TablesInvalidError
from feature_store.tables import EntityTables, read_tables
from feature_store.views import FeatureViews, ViewsError, load_views

DEFAULT_DIRECTORY = Path("var/store")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when everything is in the store, 1 with the reason on stderr."""
    options = _parser().parse_args(arguments)
    try:
        views = load_views(options.views)
        tables = read_tables(views, options.views.parent)
        with _store_url(options.redis, options.embedded) as url:
            done = asyncio.run(_run(tables, views, url, KeySpace(options.prefix), options.until))
    except (ViewsError, TablesInvalidError, FeatureStoreError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"materialized {views.name} under {options.prefix}: {done.users:,} users, {done.items:,} items, "
        f"{done.histories:,} histories as of {done.as_of:.15g}, counted in the store, {done.seconds:.1f} s"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m feature_store", description="The online feature store.")
    command = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "materialize", help="write users, items and histories of the tables into the store; running again is safe"
    )
    command.add_argument("views", type=Path, metavar="VIEWS.yaml", help="the feature views; tables are relative to this file")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--redis", metavar="URL", help="redis://, rediss:// or unix:// (default: the embedded store)")
    where.add_argument(
        "--embedded", type=Path, metavar="DIR", default=DEFAULT_DIRECTORY, help="the embedded store's directory (%(default)s)"
    )
    command.add_argument("--prefix", default=DEFAULT_PREFIX, help="of every key (%(default)s)")
    command.add_argument(
        "--until",
        type=_moment,
        metavar="VALUE",
        help="only events strictly before: a number as in the time column, or ISO 8601",
    )
    return parser


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


@contextmanager
def _store_url(redis_url: str | None, directory: Path) -> Iterator[str]:
    if redis_url is not None:
        yield redis_url
        return
    with EmbeddedStore(directory) as store:
        yield store.url


async def _run(tables: EntityTables, views: FeatureViews, url: str, keys: KeySpace, until: float | None) -> Materialized:
    writer = RedisWriter.from_url(url, keys=keys)
    try:
        with tqdm(total=values_to_write(tables), desc="materialize", unit="value", disable=None) as bar:
            return await materialize(tables, views, writer, until=until, progress=bar.update)
    finally:
        await writer.close()


if __name__ == "__main__":
    sys.exit(main())
