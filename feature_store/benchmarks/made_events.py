"""Made live events of new ids, of one user or of many."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator

from feature_store.events.event import Event, new_event
from feature_store.views import FeatureViews

USERS = 10_000
ITEMS = 5_000
HISTORY_LENGTH = 50

VIEWS = FeatureViews.model_validate(
    {
        "name": "benchmark",
        "tables": {"interactions": "interactions.csv", "users": "users.csv", "items": "items.csv"},
        "interactions": {"time": "time"},
        "user": {"key": "user_id"},
        "item": {"key": "item_id", "fields": [{"name": "item_id", "kind": "category"}]},
        "history": {"length": HISTORY_LENGTH},
        "labels": [{"name": "ctr", "column": "click"}],
        "events": {"types": [{"name": "click", "sets": {"click": 1}}]},
    }
)
"""One type of event, which enters the history, and the two half-lives that are the default."""


def made_events(users: int, seed: str) -> Iterator[Event]:
    """Clicks of random users (one of them: the same), now, on random items, without end."""
    draw = random.Random(seed)
    for number in itertools.count():
        now = time.time()
        yield new_event(
            event_id=f"{seed}-{number}",
            user_id=f"u{draw.randrange(users)}",
            item_id=str(draw.randrange(ITEMS)),
            type="click",
            time=now,
            received_at=now,
        )
