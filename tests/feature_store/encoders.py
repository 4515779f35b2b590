"""Small fitted encoders for tests."""

from __future__ import annotations

from feature_store.encoding.categories import CategoryColumn, HashedIds, VocabularyIds
from feature_store.encoding.encoder import FeatureEncoder, ViewEncoder
from feature_store.encoding.numbers import NumberColumn

EMPTY = ViewEncoder((), ())


def item_encoder(
    *, items: tuple[str, ...] = ("a", "b", "c", "d"), buckets: int = 50, history_length: int = 5
) -> FeatureEncoder:
    """Items have their id, hashed genres (two slots) and a price; users have a country."""
    item = ViewEncoder(
        (
            CategoryColumn("item", VocabularyIds(items), slots=1, multiple=False),
            CategoryColumn("genres", HashedIds("genres", buckets), slots=2, multiple=True),
        ),
        (NumberColumn("price", "standardize", fill=10.0, shift=10.0, scale=4.0),),
    )
    user = ViewEncoder((CategoryColumn("country", VocabularyIds(("no", "se")), slots=1, multiple=False),), ())
    return FeatureEncoder({"user": user, "context": EMPTY, "item": item, "candidate": EMPTY}, "item", history_length)
