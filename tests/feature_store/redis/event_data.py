"""Made live events, and stores to apply them to."""

import itertools

from feature_store.events.event import new_event
from feature_store.events.ports import SpoolMark
from feature_store.keys import KeySpace
from feature_store.records import decode_history
from feature_store.views import FeatureViews

KEYS = KeySpace()
LENGTH = 5


def views(length=LENGTH, half_lives=(10.0, 100.0)):
    return FeatureViews.model_validate(
        {
            "name": "shop",
            "tables": {"interactions": "i.csv", "users": "u.csv", "items": "t.csv"},
            "interactions": {"time": "at"},
            "user": {"key": "user_id"},
            "item": {"key": "item_id", "fields": [{"name": "item_id", "kind": "category"}]},
            "labels": [{"name": "click", "column": "clicked"}],
            "history": {"length": length, "where": {"column": "clicked"}},
            "events": {
                "half_lives_s": list(half_lives),
                "types": [{"name": "view", "sets": {"clicked": 0}}, {"name": "click", "sets": {"clicked": 1}}],
            },
        }
    )


_ids = itertools.count()


async def apply(store, events):
    """Apply with a mark that is right wherever it stands."""
    before = (await store.applied_through("s")).sure
    return await store.apply(events, SpoolMark("s", before, (before or 0) + len(events)))


def click(item, time, user="u", kind="click", event_id=None):
    return new_event(
        event_id=event_id or f"e{next(_ids)}", user_id=user, item_id=item, type=kind, time=float(time), received_at=1e9
    )


def history_of(client, user="u"):
    return decode_history(client.get(KEYS.history(user)), user)
