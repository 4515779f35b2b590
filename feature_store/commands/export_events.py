"""``python -m feature_store export-events VIEWS.yaml --out DIR``: the event log as training tables."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from feature_store.commands.store_url import add_store_options, store_url
from feature_store.errors import EventLogGapError, ExportError, FeatureStoreError
from feature_store.events.export import Exported, export_events
from feature_store.events.log import LOG_ID, LOG_START, LogReading
from feature_store.keys import KeySpace
from feature_store.redis.event_log import EventLogReader
from feature_store.table_problems import TablesInvalidError
from feature_store.views import ViewsError

_NO_LOG = (
    "this store has no event log under the prefix {prefix}: no live event ever came to it. The service's own store is named by "
    "--redis or --embedded, or as for the service by RANKLINE_STORE__URL or RANKLINE_STORE__DIRECTORY"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The views, where to write, and which events."""
    command.add_argument("views", type=Path, metavar="VIEWS.yaml", help="the feature views; tables are relative to this file")
    command.add_argument("--out", type=Path, metavar="DIR", required=True, help="a new folder for the tables and their views")
    add_store_options(command)
    command.add_argument(
        "--since",
        type=_log_id,
        metavar="ID",
        default=LOG_START,
        help="only events after this one; earlier ones are in the tables",
    )
    command.add_argument("--allow-empty", action="store_true", help="go on where no event was ever logged")
    command.add_argument("--allow-gap", action="store_true", help="go on where events are missing from the log, and say so")


def run(options: argparse.Namespace) -> int:
    """Write the tables and print what they hold; 1 with the reason on stderr."""
    try:
        keys = KeySpace(options.prefix)
        with store_url(options, create=False) as url:
            reading = asyncio.run(_read(url, keys, options.since))
        if reading.ever is None and not reading.entries and not options.allow_empty:
            raise ExportError(
                f"{_NO_LOG.format(prefix=keys.prefix)}\nnothing was written; --allow-empty exports the tables alone"
            )
        done = export_events(options.views, options.out, reading, allow_gap=options.allow_gap)
    except EventLogGapError as error:
        sys.stderr.write(f"{error}\nnothing was written; --allow-gap goes on without these events\n")
        return 1
    except (ViewsError, TablesInvalidError, FeatureStoreError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(_summary(done, options.out, reading.last_id or options.since) + "\n")
    return 0


async def _read(url: str, keys: KeySpace, since: str) -> LogReading:
    reader = EventLogReader.from_url(url, keys=keys)
    try:
        return await reader.read_all(since)
    finally:
        await reader.close()


def _summary(done: Exported, out: Path, last_id: str) -> str:
    lines = [f"warning: {gap}" for gap in done.gaps]
    if done.refused_values:
        lines.append(
            f"warning: {done.refused_values:,} context values were not such as their field accepts, and count as missing"
        )
    lines += [f"warning: {rows:,} rows: history computed by time, because {why.value}" for why, rows in done.unserved.items()]
    lines.append(
        f"exported to {out}: {done.events:,} live events, {done.examples:,} of them examples, "
        f"{done.served:,} of these with the history they were served with"
    )
    lines.append(f"last event: {last_id} (--since {last_id} goes on behind it)")
    return "\n".join(lines)


def _log_id(text: str) -> str:
    if not LOG_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("the id of an event in the log is needed, such as 1700000000000-0")
    return text
