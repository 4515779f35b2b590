"""Three small tables and their views, to be spoiled one way at a time."""

from pathlib import Path

import polars as pl

from feature_store.tables import EntityTables, read_tables
from feature_store.views import FeatureViews

USERS = "user_id,age,town\n01,30,Bonn\n02,,Köln\n03,41.5,\n"
ITEMS = "item_id,tags,price\na,x|y,1.5\nb,,2\nc,|z||x|,\n"
INTERACTIONS = "user_id,item_id,at,clicked,stars,hour\n01,a,1,1,5,7\n01,b,2,0,3,8\n02,a,2,,4,\n03,c,5,1,,7\n"


def shop_views(ending: str = "csv", **changes: object) -> FeatureViews:
    """Views over the tables above, with top-level keys replaced."""
    views = {
        "name": "shop",
        "tables": {name: f"{name}.{ending}" for name in ("interactions", "users", "items")},
        "interactions": {"time": "at"},
        "user": {"key": "user_id", "fields": [{"name": "age", "kind": "number"}, {"name": "town", "kind": "category"}]},
        "item": {
            "key": "item_id",
            "fields": [
                {"name": "item_id", "kind": "category"},
                {"name": "tags", "kind": "categories", "separator": "|"},
                {"name": "price", "kind": "number"},
            ],
        },
        "context": [{"name": "hour", "kind": "category"}],
        "history": {"length": 5, "where": {"column": "clicked"}},
        "labels": [{"name": "ctr", "column": "clicked"}, {"name": "like", "column": "stars", "at_least": 4}],
    }
    return FeatureViews.model_validate({**views, **changes})


def write_shop(folder: Path, **texts: str | bytes) -> None:
    """The three CSV files, those named in ``texts`` with another content."""
    for name, text in {"users": USERS, "items": ITEMS, "interactions": INTERACTIONS, **texts}.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.csv").write_bytes(content)


def write_shop_as_parquet(folder: Path) -> None:
    """The same content with Parquet's types: integers, floats, lists, nulls."""
    users = {"user_id": ["01", "02", "03"], "age": [30.0, None, 41.5], "town": ["Bonn", "Köln", None]}
    tags = [["x", "y"], [], ["z", "", "x"]]
    items = {"item_id": ["a", "b", "c"], "tags": tags, "price": [1.5, 2.0, None]}
    interactions = {
        "user_id": ["01", "01", "02", "03"],
        "item_id": ["a", "b", "a", "c"],
        "at": [1, 2, 2, 5],
        "clicked": [True, False, None, True],
        "stars": [5, 3, 4, None],
        "hour": [7, 8, None, 7],
    }
    pl.DataFrame(users).write_parquet(folder / "users.parquet")
    pl.DataFrame(items).write_parquet(folder / "items.parquet")
    pl.DataFrame(interactions).write_parquet(folder / "interactions.parquet")


def read_shop(folder: Path, views: FeatureViews | None = None, **texts: str | bytes) -> EntityTables:
    """Write the CSV tables and read them."""
    write_shop(folder, **texts)
    return read_tables(views or shop_views(), folder)
