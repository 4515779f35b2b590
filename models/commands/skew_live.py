"""``python -m models skew-live VIEWS --url URL ...``: is the score served after live events the one that training would see?"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import numpy as np

from feature_store.embedded import EmbeddedStore
from feature_store.keys import DEFAULT_PREFIX, KeySpace
from feature_store.redis.event_log import EventLogReader
from models.commands.skew import REFUSALS
from models.live_skew import LiveReplay, LiveSkew, measure_live_skew
from models.repository import ModelRepository
from models.skew import TOLERANCE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much traffic, against which service."""
    parser.add_argument("views", type=Path, help="feature-view YAML of the service")
    parser.add_argument("--url", required=True, help="the running service")
    parser.add_argument("--repository", type=Path, required=True, help="the model repository it serves from")
    parser.add_argument("--runs", type=Path, required=True, help="the folder of the training runs")
    store = parser.add_mutually_exclusive_group(required=True)
    store.add_argument("--redis", metavar="URL", help="the service's store; the events stay in it")
    store.add_argument("--embedded", type=Path, metavar="DIR", help="the directory of the service's embedded store")
    parser.add_argument("--prefix", default=DEFAULT_PREFIX)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)


def run(args: argparse.Namespace) -> int:
    """Print the differences by model; 1 if any is above the tolerance."""
    if args.answers < 1:
        print("--answers must be at least 1", file=sys.stderr)
        return 1
    try:
        if args.redis:
            live = asyncio.run(_measure(args, args.redis))
        else:
            with EmbeddedStore(args.embedded) as store:
                live = asyncio.run(_measure(args, store.url))
    except REFUSALS as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{live.answers:,} answers, {live.events:,} events, seed {args.seed}")
    for name, skew in sorted(live.skews.items()):
        mean = float(np.mean(skew.differences))
        print(f"{name}: {len(skew.differences):,} scores, largest difference {skew.largest:.2e}, mean {mean:.2e}")
    return 0 if all(skew.largest <= TOLERANCE for skew in live.skews.values()) else 1


async def _measure(args: argparse.Namespace, url: str) -> LiveSkew:
    log = EventLogReader.from_url(url, keys=KeySpace(args.prefix))
    replay = LiveReplay(args.views, args.url, ModelRepository(args.repository), args.runs, log)
    try:
        return await measure_live_skew(replay, answers=args.answers, seed=args.seed)
    finally:
        await log.close()
