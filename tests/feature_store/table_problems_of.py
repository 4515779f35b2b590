"""What the table reader says of spoiled tables."""

import polars as pl
import pytest

from feature_store.table_problems import TablesInvalidError
from feature_store.tables import read_tables
from tests.feature_store.shop_tables import read_shop, shop_views, write_shop_as_parquet


def problems_of(folder, views=None, **texts):
    """Every problem as ``(file, row, column, reason)``."""
    with pytest.raises(TablesInvalidError) as refused:
        read_shop(folder, views, **texts)
    prefix = f"{folder}/"
    return [(each.file.removeprefix(prefix), each.row, each.column, each.reason) for each in refused.value.problems]


def problems_or_none(folder, views=None, **texts):
    """The problems of tables that may as well be sound."""
    try:
        read_tables(views, folder) if views else read_shop(folder, **texts)
    except TablesInvalidError as refused:
        return refused.problems
    return []


def read_column(folder, name, values, **declared):
    """A users table in Parquet with one more field, read back as the field's canonical values."""
    write_shop_as_parquet(folder)
    frame = pl.read_parquet(folder / "users.parquet").with_columns(pl.Series("extra", values))
    frame.write_parquet(folder / "users.parquet")
    field = {"name": name, "column": "extra", **declared}
    return read_tables(shop_views("parquet", user={"key": "user_id", "fields": [field]}), folder).users[name].to_list()
