"""Tables of ids for every load test."""

from __future__ import annotations

import polars as pl
import pytest


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name 60 integer users (Parquet) and 300 text items (CSV)."""
    folder = tmp_path_factory.mktemp("tables")
    pl.DataFrame({"user_id": range(1, 61)}).write_parquet(folder / "users.parquet")
    pl.DataFrame({"item_id": [f"item-{number}" for number in range(300)]}).write_csv(folder / "items.csv")
    return ["--users", f"{folder}/users.parquet:user_id", "--items", f"{folder}/items.csv:item_id"]
