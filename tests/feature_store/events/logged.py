"""Made log entries, and a small shop whose views declare events."""

import json

from feature_store.event_types import Events
from feature_store.events.event import LoggedEvent, encode_event, new_event
from feature_store.events.log import LogEntry, LogReading
from feature_store.events.served import BaseHistory
from tests.feature_store.shop_tables import shop_views, write_shop

EVENTS = {
    "types": [
        {"name": "impression", "sets": {"clicked": 0}, "example": True},
        {"name": "click", "sets": {"clicked": 1}},
        {"name": "rating", "value": "stars"},
        {"name": "review", "value": "stars", "example": True},
    ]
}
DECLARED = Events.model_validate(EVENTS)


def event_shop(**changes):
    """The views of the shop, with events."""
    return shop_views(**{"events": EVENTS, **changes})


def logged(number, kind="click", *, user="01", item="a", time=10.0, version=1, entered=False, event_id=None, **more):
    """One event as the log has it."""
    event = new_event(
        event_id=event_id or f"e{number}", user_id=user, item_id=item, type=kind, time=time, received_at=time, **more
    )
    return LoggedEvent(number, event, version, entered)


def base_of(items, times, count=None):
    """What the tables hold of a user: the newest of ``count`` events."""
    return BaseHistory(items, times, range(len(items)), len(items) if count is None else count)


def fields_of(each):
    """The stream's fields of an event."""
    return {
        b"n": str(each.number).encode(),
        b"v": str(each.version).encode(),
        b"h": b"1" if each.entered else b"0",
        b"e": encode_event(each.event),
    }


def reading_of(*events, before=0, ever=None):
    """A reading of the whole log."""
    return LogReading([LogEntry(f"1-{each.number}", each.number, each) for each in events], before, ever)


def write_event_shop(folder, views=None, **texts):
    """The shop's files and the path of its views."""
    write_shop(folder, **texts)
    data = (views or event_shop()).model_dump(mode="json", exclude_unset=True)
    (folder / "views.yaml").write_text(json.dumps(data))
    return folder / "views.yaml"
