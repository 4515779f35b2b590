"""Users and items as numbered rows: those of the table first, then those that only the interactions name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EntityRows:
    """An entity's rows and who the interactions are about.

    ``frame`` holds the key column ``key`` and the fields; a row of an entity that its table lacks has null fields, but for
    the one that is the key itself.
    ``codes`` is int64 [interactions], places in ``frame``; ``in_table`` counts the rows that the table has.
    """

    key: str
    frame: pl.DataFrame
    codes: Codes
    in_table: int

    @property
    def absent(self) -> list[str]:
        """Keys that interactions name and the table lacks."""
        return self.frame[self.key][self.in_table :].to_list()


def number_entities(table: pl.DataFrame, key: str, named: pl.Series, *, key_field: str | None = None) -> EntityRows:
    """Number the entities of ``table`` by place, and find the place of each key in ``named``.

    ``key_field`` is the field that encodes the key: known even of an entity that the table lacks, offline as online.
    """
    absent = pl.DataFrame({key: named.unique(maintain_order=True)}).join(
        table.select(key), on=key, how="anti", maintain_order="left"
    )
    if key_field is not None:
        absent = absent.with_columns(pl.col(key).alias(key_field))
    frame = pl.concat([table, absent], how="diagonal")
    places = frame.select(pl.col(key), pl.int_range(pl.len(), dtype=pl.Int64).alias("place"))
    codes = pl.DataFrame({key: named}).join(places, on=key, how="left", maintain_order="left")["place"]
    return EntityRows(key, frame, codes.to_numpy().astype(np.int64), table.height)
