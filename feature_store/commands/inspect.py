"""``python -m feature_store inspect USER``: what the store holds of a user, as the ranker would see it. Writes nothing.

Exit code 0 when there is something of the user, 1 when there is not, or the store cannot be read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from feature_store.commands.store_url import add_store_options, store_url
from feature_store.counters import MAX_COUNTER_BYTES
from feature_store.errors import FeatureStoreError
from feature_store.inspect import RawLook, UserSeen, counters_seen, features_seen, history_seen
from feature_store.inspect_text import text_of, visible
from feature_store.keys import KeySpace
from feature_store.records import MAX_FEATURE_BYTES, MAX_HISTORY_BYTES
from feature_store.redis.inspection import RedisInspection
from feature_store.views import FeatureViews, ViewsError, load_views


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("user", metavar="USER", help="the user's id")
    parser.add_argument("--views", type=Path, metavar="VIEWS.yaml", help="the feature views: fields, TTLs, the history's cap")
    parser.add_argument("--item", nargs="+", action="extend", default=[], metavar="ID", help="show these items, too")
    parser.add_argument("--json", action="store_true", help="as JSON, values in full")
    add_store_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print what there is; 1 with the reason on stderr when there is nothing."""
    try:
        views = None if options.views is None else load_views(options.views)
        keys = KeySpace(options.prefix)
        with store_url(options, create=False) as url:
            looks = asyncio.run(_look(url, keys, options.user, options.item))
    except (ViewsError, FeatureStoreError) as error:
        print(error, file=sys.stderr)
        return 1
    seen = user_seen(options.user, options.item, looks, views, now=time.time())
    text = f"{json.dumps(asdict(seen), indent=2)}\n" if options.json else text_of(seen)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    if not seen.found:
        print(f"the store has nothing of user {visible(options.user)!s}", file=sys.stderr)
        return 1
    return 0


def user_seen(
    user_id: str, item_ids: Sequence[str], looks: Sequence[RawLook], views: FeatureViews | None, *, now: float
) -> UserSeen:
    """What the looks say: at the user's features, history and counters, then at each item's features and counters."""
    features, history, counters, *of_items = looks
    user, item = (None, None) if views is None else (views.user, views.item)
    return UserSeen(
        user_id,
        features_seen(user_id, features, user, now),
        history_seen(user_id, history, views, now),
        counters_seen(user_id, counters, views, now),
        [features_seen(item_id, look, item, now) for item_id, look in zip(item_ids, of_items[::2], strict=True)],
        [counters_seen(item_id, look, views, now) for item_id, look in zip(item_ids, of_items[1::2], strict=True)],
    )


async def _look(url: str, keys: KeySpace, user_id: str, item_ids: Sequence[str]) -> list[RawLook]:
    inspection = RedisInspection.from_url(url)
    try:
        return await inspection.look_at(
            [
                (keys.user(user_id), MAX_FEATURE_BYTES),
                (keys.history(user_id), MAX_HISTORY_BYTES),
                (keys.user_counters(user_id), MAX_COUNTER_BYTES),
                *chain.from_iterable(
                    ((keys.item(item_id), MAX_FEATURE_BYTES), (keys.item_counters(item_id), MAX_COUNTER_BYTES))
                    for item_id in item_ids
                ),
            ]
        )
    finally:
        await inspection.close()
