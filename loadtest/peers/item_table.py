"""The items' features, encoded once, as a file that every peer loads at its start."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl

from loadtest.peers.features import Vocabularies


def item_table(world: Path, version: Path, directory: Path) -> Path:
    """An npz of ``ids`` int64 [n] and ``item_categories`` int32 [1 + n, fields]; row 0 is an item that nobody knows.

    Made once for a version of a model: its name has the digest of the encoder and of the items.
    """
    encoder, items = (version / "encoder.json").read_bytes(), world / "items.parquet"
    path = directory / f"items-{hashlib.sha256(encoder + items.read_bytes()).hexdigest()[:16]}.npz"
    if not path.exists():
        described = json.loads(encoder)
        vocabularies, key = Vocabularies(described["views"]["item"]), described["item_key"]
        frame = pl.read_parquet(items)
        rows = [vocabularies.encode({key: "not an item"}), *map(vocabularies.encode, frame.iter_rows(named=True))]
        directory.mkdir(parents=True, exist_ok=True)
        np.savez(path, ids=frame[key].to_numpy(), item_categories=np.array(rows, np.int32))
    return path
