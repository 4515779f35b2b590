"""Small random logs for hypothesis: users and items that may lack a table row, ties in time, labels that may be unknown."""

from dataclasses import dataclass

import polars as pl
from hypothesis import strategies as st

from feature_store.tables import HISTORY_EVENT, ITEM_KEY, TIME, USER_KEY, EntityTables, label_column
from feature_store.views import FeatureViews

USERS, ITEMS, TOWNS, TAGS = ("u1", "u2", "u3"), ("i1", "i2", "i3", "i4"), ("x", "y", None), ("s", "t", "v")


@dataclass(frozen=True)
class Event:
    """One interaction as a plain record."""

    user: str
    item: str
    time: int
    click: bool
    buy: float | None
    hour: str | None
    place: float | None


events = st.lists(
    st.builds(
        Event,
        st.sampled_from(USERS),
        st.sampled_from(ITEMS),
        st.integers(0, 12),
        st.booleans(),
        st.sampled_from([0.0, 1.0, None]),
        st.sampled_from(["7", "8", None]),
        st.sampled_from([1.0, 2.5, None]),
    ),
    min_size=12,
    max_size=40,
)


def log_views(*, length=3, by="time", **changes):
    """Views over the logs, with top-level keys replaced."""
    views = {
        "name": "log",
        "tables": {"interactions": "interactions.csv", "users": "users.csv", "items": "items.csv"},
        "interactions": {"time": "time"},
        "user": {
            "key": "user",
            "fields": [
                {"name": "town", "kind": "category", "encode": {"by": "vocabulary", "min_count": 3}},
                {"name": "age", "kind": "number"},
            ],
        },
        "item": {
            "key": "item",
            "fields": [
                {"name": "item", "kind": "category"},
                {"name": "tags", "kind": "categories", "max_values": 2},
                {"name": "maker", "kind": "category", "encode": {"by": "hash", "buckets": 50}},
            ],
        },
        "context": [{"name": "hour", "kind": "category"}, {"name": "place", "kind": "number", "per": "candidate"}],
        "history": {"length": length, "where": {"column": "click"}},
        "labels": [{"name": "click", "column": "click"}, {"name": "buy", "column": "buy"}],
        "split": {"by": by, "valid": 0.2, "test": 0.2},
    }
    return FeatureViews.model_validate({**views, **changes})


def log_tables(log):
    """The events and the entities' tables in canonical columns; ``u3`` and ``i4`` have no row of their own."""
    interactions = pl.DataFrame(
        {
            USER_KEY: [event.user for event in log],
            ITEM_KEY: [event.item for event in log],
            TIME: [event.time for event in log],
            HISTORY_EVENT: [event.click for event in log],
            "hour": pl.Series([event.hour for event in log], dtype=pl.String),
            "place": pl.Series([event.place for event in log], dtype=pl.Float64),
            label_column("click"): [float(event.click) for event in log],
            label_column("buy"): pl.Series([event.buy for event in log], dtype=pl.Float64),
        }
    )
    users = pl.DataFrame({USER_KEY: ["u2", "u1", "u9"], "town": ["x", None, "z"], "age": [20.0, 40.0, None]})
    tags = [["s", "t", "v"], None, ["t"], ["s"]]
    items = pl.DataFrame(
        {ITEM_KEY: ["i3", "i1", "i2", "i9"], "item": ["i3", "i1", "i2", "i9"], "tags": tags, "maker": ["m", "n", None, "m"]}
    )
    return EntityTables(interactions, users, items)
