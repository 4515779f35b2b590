"""One digest of views and tables: two runs with the same one learned from the same data, in CSV or in Parquet."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Protocol

import numpy as np
import polars as pl

from feature_store.tables import EntityTables
from feature_store.views import FeatureViews

_NO_TTL = {"ttl_s": True, "fields": {"__all__": {"ttl_s"}}}
_ONLINE_ONLY: Any = {"tables": True, "events": True, "user": _NO_TTL, "item": _NO_TTL, "context": {"__all__": {"ttl_s"}}}
"""What changes nothing that is learned: where files lie, which events come live, how long a stored value is good."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


def data_fingerprint(views: FeatureViews, tables: EntityTables) -> str:
    """SHA-256 over the views (but not where the files lie) and the canonical tables, row order included; 64 hex digits."""
    digest = hashlib.sha256()
    declared = views.model_dump(mode="json", exclude=_ONLINE_ONLY)
    if views.interactions.served_history is None:
        del declared["interactions"]["served_history"]  # views without it keep the fingerprint they had before it existed
    digest.update(json.dumps(declared, sort_keys=True, separators=(",", ":")).encode())
    for name, frame in (("interactions", tables.interactions), ("users", tables.users), ("items", tables.items)):
        for column in sorted(frame.columns):
            digest.update(f"|{name}|{column}|{frame[column].dtype}|{frame.height}|".encode())
            _add_series(digest, frame[column])
    return digest.hexdigest()


def _add_series(digest: _Digest, series: pl.Series) -> None:
    """Content in a form that no library version changes: little-endian numbers, UTF-8 text with its lengths, null flags."""
    if isinstance(series.dtype, pl.List):
        digest.update(series.list.len().cast(pl.Int64).fill_null(-1).to_numpy().astype("<i8").tobytes())
        _add_series(digest, series.drop_nulls().explode())
    elif series.dtype == pl.String:
        digest.update(series.str.len_bytes().cast(pl.Int64).fill_null(-1).to_numpy().astype("<i8").tobytes())
        digest.update("".join(series.drop_nulls().to_list()).encode())
    else:
        digest.update(np.packbits(series.is_null().to_numpy()).tobytes())
        kind = "<f8" if series.dtype.is_float() else "<i8"
        digest.update(
            series.cast(pl.Int8 if series.dtype == pl.Boolean else series.dtype).fill_null(0).to_numpy().astype(kind).tobytes()
        )
