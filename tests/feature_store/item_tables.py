"""Item tables for tests: a row is a small function of the item's encoded features alone."""

import numpy as np

from feature_store.encoding.encoder import Block
from feature_store.item_table import BaseRows, ItemTable

WIDTH = 3
_WEIGHTS = np.array([[1, -2, 3], [0.5, 4, 0.25], [7, 1, -1], [2, 0.125, 5]], np.float32)


def derived(block):
    """The oracle: float32 [n, 3], exact for small numbers."""
    columns = np.concatenate([block.categories.astype(np.float32), block.numbers], axis=1)
    return (columns[:, :, None] * _WEIGHTS[None, : columns.shape[1]]).sum(axis=1, dtype=np.float32)


def table_of(encoder, compute=derived):
    """A table without published rows."""
    return ItemTable(WIDTH, compute)


def catalogue(encoder, values):
    """What a version publishes: encoded features by vocabulary id, those of ``values`` for the items named."""
    terms = encoder.item_key_column.ids.terms
    records = [{}, {"item": "\x00"}, *({**(values.get(term) or {}), "item": term} for term in terms)]
    return encoder.views["item"].encode_records(records)


def base_rows(encoder, values, rows_of=derived):
    """Published rows of a catalogue."""
    inputs = catalogue(encoder, values)
    return BaseRows(rows_of(inputs), Block(inputs.categories, inputs.numbers), 0)


def based_table(encoder, values, compute=derived):
    """A table with published rows."""
    return ItemTable(WIDTH, compute, base_rows(encoder, values))
