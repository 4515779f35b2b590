"""``python -m models skew VIEWS --url URL ...``: is the served score the trained score?"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TypeVar

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

MeasuredT = TypeVar("MeasuredT")
_REFUSALS = (
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


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """The service to ask, what it serves from, and its store."""
    parser.add_argument("views", type=Path, help="feature-view YAML of the service, from which its models were trained")
    parser.add_argument("--url", required=True, help="the running service")
    parser.add_argument("--repository", type=Path, required=True, help="the model repository it serves from")
    parser.add_argument("--runs", type=Path, required=True, help="the folder of the training runs")
    store = parser.add_mutually_exclusive_group(required=True)
    store.add_argument("--redis", metavar="URL", help="the service's store; what is replayed stays in it")
    store.add_argument("--embedded", type=Path, metavar="DIR", help="the directory of the service's embedded store")
    parser.add_argument("--prefix", default=DEFAULT_PREFIX)
    parser.add_argument("--seed", type=int, default=1)


def measured(
    args: argparse.Namespace, measure: Callable[[argparse.Namespace, str], Coroutine[None, None, MeasuredT]]
) -> MeasuredT | None:
    """What ``measure`` gives on the store that the arguments name; None, with the reason on stderr, where it cannot."""
    try:
        if args.redis:
            return asyncio.run(measure(args, args.redis))
        with EmbeddedStore(args.embedded) as store:
            return asyncio.run(measure(args, store.url))
    except _REFUSALS as error:
        print(error, file=sys.stderr)
        return None


def verdict(skews: Mapping[str, ModelSkew], what: str) -> int:
    """Print the differences by model; 1 if any is above the tolerance."""
    for name, skew in sorted(skews.items()):
        mean = float(np.mean(skew.differences))
        print(f"{name}: {len(skew.differences):,} {what}, largest difference {skew.largest:.2e}, mean {mean:.2e}")
    return 0 if all(skew.largest <= TOLERANCE for skew in skews.values()) else 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to replay, against which service."""
    add_target_arguments(parser)
    parser.add_argument("--rows", type=int, default=2_000)


def run(args: argparse.Namespace) -> int:
    """Print the differences by model; 1 if any is above the tolerance."""
    if args.rows < 1:
        print("--rows must be at least 1", file=sys.stderr)
        return 1
    skews = measured(args, _measure)
    return 1 if skews is None else verdict(skews, "rows")


async def _measure(args: argparse.Namespace, url: str) -> dict[str, ModelSkew]:
    writer = RedisWriter.from_url(url, keys=KeySpace(args.prefix))
    replay = Replay(args.views, args.url, ModelRepository(args.repository), args.runs, writer)
    try:
        return await measure_skew(replay, rows=args.rows, seed=args.seed)
    finally:
        await writer.close()
