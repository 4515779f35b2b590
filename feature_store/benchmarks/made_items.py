"""Made items, a user and their encoder: as records of the store and as the hashes of texts that a plain client would keep."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from feature_store.encoding.categories import CategoryColumn, HashedIds, VocabularyIds
from feature_store.encoding.encoder import FeatureEncoder, ViewEncoder
from feature_store.encoding.numbers import NumberColumn
from feature_store.encoding.values import RawValue

Kind = Literal["category", "number", "list"]
Values = dict[str, RawValue]

ITEM_KEY = "item_id"
USER = "100001"
HISTORY_EVENTS = 50
_KINDS: tuple[Kind, ...] = ("category", "number", "list", "number")
_TERMS = 200
_SEPARATOR = "|"
_START = 1_767_225_600.0


@dataclass(frozen=True, slots=True)
class MadeItems:
    """Items ``ids`` with the same ``fields`` each, by kind: a quarter texts, a half numbers, a quarter lists of two texts."""

    ids: tuple[str, ...]
    fields: Mapping[str, Kind]

    @classmethod
    def of(cls, items: int, fields: int) -> MadeItems:
        """So many items with so many fields."""
        ids = tuple(str(1_000_000 + number) for number in range(items))
        return cls(ids, {f"{_KINDS[place % 4]}_{place}": _KINDS[place % 4] for place in range(fields)})

    def values(self, item_id: str) -> Values:
        """The raw values of one item; always the same."""
        draw = random.Random(item_id)
        return {name: _value(kind, draw) for name, kind in self.fields.items()}

    def hashes(self, item_id: str, views: int) -> dict[str, dict[str, str]]:
        """The same values as texts, the fields dealt out to a hash per view, by key."""
        texts = {name: _text(value) for name, value in self.values(item_id).items()}
        names = list(texts)
        return {
            key: {name: texts[name] for name in names[view::views]} for view, key in enumerate(self.hash_keys([item_id], views))
        }

    def hash_keys(self, item_ids: Sequence[str], views: int = 1) -> list[str]:
        """The keys of the plain hashes of items, ``views`` of them an item."""
        kind = f"plain:{len(self.fields)}:{views}"
        return [f"{kind}:{view}:{item_id}" for item_id in item_ids for view in range(views)]

    def from_texts(self, hashes: Sequence[Mapping[str, str]], views: int = 1) -> list[Values]:
        """The raw values again, from the hashes of items in order, ``views`` of them an item."""
        fields = self.fields
        items = [hashes[start : start + views] for start in range(0, len(hashes), views)]
        return [{name: _from_text(fields[name], text) for each in item for name, text in each.items()} for item in items]

    def encoder(self, used: int) -> FeatureEncoder:
        """A model's encoder over the item's id and its first ``used`` fields."""
        kinds = dict(list(self.fields.items())[:used])
        texts = [name for name, kind in kinds.items() if kind == "category"]
        lists = [name for name, kind in kinds.items() if kind == "list"]
        numbers = [name for name, kind in kinds.items() if kind == "number"]
        terms = VocabularyIds([f"term-{number}" for number in range(_TERMS)])
        item = ViewEncoder(
            (
                CategoryColumn(ITEM_KEY, VocabularyIds(self.ids), slots=1, multiple=False),
                *(CategoryColumn(name, terms, slots=1, multiple=False) for name in texts),
                *(CategoryColumn(name, HashedIds(name, 1_000), slots=2, multiple=True) for name in lists),
            ),
            tuple(NumberColumn(name, "standardize", fill=0.5, shift=0.5, scale=0.3) for name in numbers),
        )
        empty = ViewEncoder((), ())
        return FeatureEncoder({"user": empty, "context": empty, "item": item, "candidate": empty}, ITEM_KEY, HISTORY_EVENTS)

    def history(self) -> tuple[list[str], list[float]]:
        """Items and times of the user's history, oldest first."""
        items = random.Random(0).choices(self.ids, k=HISTORY_EVENTS)
        return items, [_START + 60.0 * place for place in range(HISTORY_EVENTS)]


def _value(kind: Kind, draw: random.Random) -> RawValue:
    if kind == "number":
        return draw.random()
    if kind == "category":
        return f"term-{draw.randrange(_TERMS)}"
    return [f"tag-{draw.randrange(_TERMS)}", f"tag-{draw.randrange(_TERMS)}"]


def _text(value: RawValue) -> str:
    return _SEPARATOR.join(map(str, value)) if isinstance(value, list) else str(value)


def _from_text(kind: Kind, text: str) -> RawValue:
    if kind == "number":
        return float(text)
    return text if kind == "category" else text.split(_SEPARATOR)
