"""``python -m models skew-live VIEWS --url URL ...``: is the score served after live events the one that training would see?"""

from __future__ import annotations

import argparse
import sys

from feature_store.keys import KeySpace
from feature_store.redis.event_log import EventLogReader
from models.commands.skew import add_target_arguments, measured, verdict
from models.live_skew import LiveReplay, LiveSkew, measure_live_skew
from models.repository import ModelRepository


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much traffic, against which service."""
    add_target_arguments(parser)
    parser.add_argument("--answers", type=int, default=10_000)


def run(args: argparse.Namespace) -> int:
    """Print the differences by model; 1 if any is above the tolerance."""
    if args.answers < 1:
        print("--answers must be at least 1", file=sys.stderr)
        return 1
    live = measured(args, _measure)
    if live is None:
        return 1
    print(f"{live.answers:,} answers, {live.events:,} events, seed {args.seed}")
    return verdict(live.skews, "scores")


async def _measure(args: argparse.Namespace, url: str) -> LiveSkew:
    log = EventLogReader.from_url(url, keys=KeySpace(args.prefix))
    replay = LiveReplay(args.views, args.url, ModelRepository(args.repository), args.runs, log)
    try:
        return await measure_live_skew(replay, answers=args.answers, seed=args.seed)
    finally:
        await log.close()
