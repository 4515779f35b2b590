"""What every source of data leaves behind: three Parquet tables and the YAML that describes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from feature_store.views import load_views

VIEWS_FILE = "views.yaml"


@dataclass(frozen=True, slots=True)
class DataSetTables:
    """The three tables in the columns that the YAML names."""

    interactions: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame


def write_data_set(tables: DataSetTables, views_yaml: str, out: Path) -> Path:
    """Write ``interactions``, ``users`` and ``items`` (``.parquet``) and ``views.yaml`` into ``out``; returns the YAML's path.

    Raises:
        OSError: the folder cannot be written.
        feature_store.views.ViewsError: the YAML is not one of feature views.
    """
    out.mkdir(parents=True, exist_ok=True)
    tables.interactions.write_parquet(out / "interactions.parquet")
    tables.users.write_parquet(out / "users.parquet")
    tables.items.write_parquet(out / "items.parquet")
    path = out / VIEWS_FILE
    path.write_text(views_yaml, encoding="utf-8")
    load_views(path)
    return path
