"""``python -m models skew VIEWS --url URL ...``: is the served score the trained score?"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import httpx
import numpy as np

from feature_store.embedded import EmbeddedStore
from feature_store.errors import FeatureStoreError
from feature_store.keys import DEFAULT_PREFIX, KeySpace
from feature_store.redis.writer import RedisWriter
from feature_store.table_problems import TablesInvalidError
from feature_store.views import ViewsError
from models.repository import ModelRepository, RepositoryError
from models.skew import TOLERANCE, ModelSkew, Replay, SkewError, measure_skew
from models.training.run_directory import RunRefusedError
from models.training.split import SplitEmptyError

REFUSALS = (
    SkewError,
    RunRefusedError,
    RepositoryError,
    ViewsError,
    TablesInvalidError,
    SplitEmptyError,
    FeatureStoreError,
    httpx.HTTPError,
    httpx.InvalidURL,
    ValueError,
)
"""Mistakes of the command line, the files or the service: told in a line, without a traceback."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to replay, against which service."""
    parser.add_argument("views", type=Path, help="feature-view YAML that the models were trained from")
    parser.add_argument("--url", required=True, help="the running service")
    parser.add_argument("--repository", type=Path, required=True, help="the model repository it serves from")
    parser.add_argument("--runs", type=Path, required=True, help="the folder of the training runs")
    store = parser.add_mutually_exclusive_group(required=True)
    store.add_argument("--redis", metavar="URL", help="the service's store; replayed histories stay in it")
    store.add_argument("--embedded", type=Path, metavar="DIR", help="the directory of the service's embedded store")
    parser.add_argument("--prefix", default=DEFAULT_PREFIX)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)


def run(args: argparse.Namespace) -> int:
    """Print the differences by model; 1 if any is above the tolerance."""
    if args.rows < 1:
        print("--rows must be at least 1", file=sys.stderr)
        return 1
    try:
        if args.redis:
            skews = asyncio.run(_measure(args, args.redis))
        else:
            with EmbeddedStore(args.embedded) as store:
                skews = asyncio.run(_measure(args, store.url))
    except REFUSALS as error:
        print(error, file=sys.stderr)
        return 1
    for name, skew in sorted(skews.items()):
        mean = float(np.mean(skew.differences))
        print(f"{name}: {len(skew.differences):,} rows, largest difference {skew.largest:.2e}, mean {mean:.2e}")
    return 0 if all(skew.largest <= TOLERANCE for skew in skews.values()) else 1


async def _measure(args: argparse.Namespace, url: str) -> dict[str, ModelSkew]:
    writer = RedisWriter.from_url(url, keys=KeySpace(args.prefix))
    replay = Replay(args.views, args.url, ModelRepository(args.repository), args.runs, writer)
    try:
        return await measure_skew(replay, rows=args.rows, seed=args.seed)
    finally:
        await writer.close()
