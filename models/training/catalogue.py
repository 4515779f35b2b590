"""The items that a model knows, encoded, by their id: what the item part of a collapsed model is computed for at publishing."""

from __future__ import annotations

import numpy as np

from feature_store.encoding.categories import VocabularyIds
from feature_store.encoding.encoder import Block, FeatureEncoder

Catalogue = dict[str, np.ndarray]
"""Graph input (``item_categories``, ``item_numbers``) to its rows [ids, width], row k being that of the item with id k.

Ids without an item of their own, such as that of unknown items, have the row of an item of that id and no features."""


def catalogue_of(encoder: FeatureEncoder, items: Block) -> Catalogue | None:
    """The catalogue from the encoded rows of all items; None where ids are hashed: then an id names no single item."""
    key = encoder.item_key_column
    if not isinstance(key.ids, VocabularyIds):
        return None
    view = encoder.views["item"]
    ids = key.ids.cardinality
    bare = view.encode({}, 1)
    categories, numbers = bare.categories.repeat(ids, 0), bare.numbers.repeat(ids, 0)
    slot = encoder.item_key_slot
    categories[items.categories[:, slot]] = items.categories
    numbers[items.categories[:, slot]] = items.numbers
    # Many items share the id of the unknown ones; none of them stands for it.
    shared = slice(0, ids - len(key.ids.terms))
    categories[shared], numbers[shared] = bare.categories, bare.numbers
    categories[:, slot] = np.arange(ids)
    blocks = {"item_categories": categories, "item_numbers": numbers}
    return {name: rows for name, rows in blocks.items() if rows.shape[1]}
