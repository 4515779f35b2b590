"""Category values to ids. Id 0 means missing (the zero vector); with a vocabulary id 1 means unknown (OOV)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.encoding.values import RawValue, ValueRefusedError, category_text
from feature_store.views import CategoriesField, CategoryField, Hashing, Vocabulary

MISSING_ID = 0
OOV_ID = 1
FIRST_KNOWN_ID = 2

Ids = npt.NDArray[np.int32]
IdOf = Callable[[str | None, int], int]
"""The id of a text or None, or the second argument where the vocabulary lacks the text."""

_TEXT = frozenset({str})
_TEXT_OR_MISSING = frozenset({str, type(None)})
_LIST_OR_MISSING = frozenset({list, tuple, type(None)})


class VocabularyIds:
    """Text to id by a fitted table; unknown text gets ``OOV_ID``."""

    def __init__(self, terms: Sequence[str]) -> None:
        self.terms = tuple(terms)
        self._id_of = {term: FIRST_KNOWN_ID + place for place, term in enumerate(self.terms)}
        if len(self._id_of) != len(self.terms):
            raise ValueError("a vocabulary must not hold a term twice")
        self._id_or_missing: dict[str | None, int] = {None: MISSING_ID, "": MISSING_ID}
        self._id_or_missing.update(self._id_of)

    @classmethod
    def fit(cls, counts: Mapping[str, int], rule: Vocabulary) -> VocabularyIds:
        """Keep terms seen ``min_count`` times, the most frequent first (ties by text), at most ``max_size``."""
        kept = [(-count, term) for term, count in counts.items() if count >= rule.min_count]
        return cls([term for _, term in sorted(kept)[: rule.max_size]])

    @property
    def cardinality(self) -> int:
        """Number of ids, the reserved ones included."""
        return FIRST_KNOWN_ID + len(self.terms)

    @property
    def known_id_of(self) -> IdOf:
        """The table itself, for who asks one by one: None and empty text are missing; unknown text is left to the caller."""
        return self._id_or_missing.get

    def id_of(self, text: str) -> int:
        """The id of one term."""
        return self._id_of.get(text, OOV_ID)

    def ids_of(self, texts: Iterable[str | None]) -> Iterator[int]:
        """The ids of many terms; None and empty text are missing."""
        return map(self._id_or_missing.get, texts, repeat(OOV_ID))

    def present_ids_of(self, texts: Iterable[str]) -> Iterator[int]:
        """The ids of many terms as ``id_of`` gives them: nothing is missing, not even empty text."""
        return map(self._id_of.get, texts, repeat(OOV_ID))

    def to_json(self) -> dict[str, Any]:
        """The fitted state."""
        return {"by": "vocabulary", "terms": list(self.terms)}


class HashedIds:
    """Text to id by BLAKE2b, salted with the field's name so that fields collide independently."""

    def __init__(self, field: str, buckets: int) -> None:
        self.field = field
        self.buckets = buckets
        # BLAKE2b takes at most 16 bytes of personalization; names may be longer, so their digest is used.
        self._person = hashlib.blake2b(field.encode(), digest_size=16).digest()

    @property
    def cardinality(self) -> int:
        """Number of ids, the reserved one for missing included."""
        return self.buckets + 1

    def id_of(self, text: str) -> int:
        """The id of one value, 1..buckets."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=self._person).digest()
        return 1 + int.from_bytes(digest, "little") % self.buckets

    def ids_of(self, texts: Iterable[str | None]) -> Iterator[int]:
        """The ids of many values; None and empty text are missing."""
        return (self.id_of(text) if text else MISSING_ID for text in texts)

    def present_ids_of(self, texts: Iterable[str]) -> Iterator[int]:
        """The ids of many values as ``id_of`` gives them: nothing is missing, not even empty text."""
        return map(self.id_of, texts)

    def to_json(self) -> dict[str, Any]:
        """The fitted state."""
        return {"by": "hash", "buckets": self.buckets}


CategoryIds = VocabularyIds | HashedIds


def category_ids_from_json(field: str, state: Mapping[str, Any]) -> CategoryIds:
    """Rebuild the id rule from ``to_json``."""
    if state["by"] == "vocabulary":
        return VocabularyIds(state["terms"])
    return HashedIds(field, state["buckets"])


def fit_category_ids(field: CategoryField | CategoriesField, counts: Mapping[str, int]) -> CategoryIds:
    """Fit the field's declared rule on training values: canonical text, and how many training rows carry it."""
    if isinstance(field.encode, Hashing):
        return HashedIds(field.name, field.encode.buckets)
    return VocabularyIds.fit(counts, field.encode)


class CategoryColumn:
    """Encodes one ``category`` field into one slot, or one ``categories`` field into ``max_values`` slots."""

    def __init__(self, name: str, ids: CategoryIds, *, slots: int, multiple: bool) -> None:
        self.name = name
        self.ids = ids
        self.slots = slots
        self.multiple = multiple
        self._no_ids = (MISSING_ID,) * slots

    def encode(self, values: Sequence[RawValue]) -> Ids:
        """Raw values to ids of shape [n, slots]; missing values and unused slots are 0, surplus values are cut unread.

        None and empty text are missing; empty texts inside a list are passed over.

        Raises:
            ValueRefusedError: a value of the wrong type, with the field's name and the value's place.
        """
        ids = self._encode_lists(values) if self.multiple else self._encode_texts(values)
        return self._encode_any(values) if ids is None else ids

    def encode_one(self, value: RawValue) -> tuple[int, ...]:
        """One raw value to its ``slots`` ids: what ``encode`` gives for it alone, in a fraction of the time.

        Raises:
            ValueRefusedError: a value of the wrong type.
        """
        if value is None or value == "":
            return self._no_ids
        if not self.multiple:
            return (self.ids.id_of(category_text(value)), *self._no_ids[1:])
        ids = tuple(self.ids.present_ids_of(islice(_texts(value), self.slots)))
        return ids + self._no_ids[len(ids) :]

    @property
    def id_of_text(self) -> IdOf | None:
        """What ``encode_one`` does with None and with text, as one look-up; None where it takes more."""
        ids = self.ids
        return ids.known_id_of if isinstance(ids, VocabularyIds) and self.slots == 1 and not self.multiple else None

    def _encode_texts(self, values: Sequence[RawValue]) -> Ids | None:
        """The ids if every value is text or missing, as stored ones nearly always are; else None."""
        if not _TEXT_OR_MISSING.issuperset(map(type, values)):
            return None
        return np.fromiter(self.ids.ids_of(values), np.int32, len(values)).reshape(-1, 1)  # type: ignore[arg-type]

    def _encode_lists(self, values: Sequence[RawValue]) -> Ids | None:
        """The ids if every value is missing or a list of texts, none of them empty; else None."""
        if not _LIST_OR_MISSING.issuperset(map(type, values)):
            return None
        kept = [each[: self.slots] if each else () for each in values]  # type: ignore[index]
        flat = [*chain.from_iterable(kept)]
        if not _TEXT.issuperset(map(type, flat)) or "" in flat:
            return None
        lengths = np.fromiter(map(len, kept), np.int64, len(kept))
        starts = np.cumsum(lengths) - lengths
        rows = np.repeat(np.arange(len(kept)), lengths)
        out = np.zeros((len(kept), self.slots), dtype=np.int32)
        out[rows, np.arange(len(flat)) - starts[rows]] = np.fromiter(self.ids.ids_of(flat), np.int32, len(flat))
        return out

    def _encode_any(self, values: Sequence[RawValue]) -> Ids:
        """Value by value: numbers as categories, empty texts in lists, and what must be refused."""
        out = np.zeros((len(values), self.slots), dtype=np.int32)
        id_of = self.ids.id_of
        for row, value in enumerate(values):
            if value is None or value == "":
                continue
            try:
                texts = islice(_texts(value), self.slots) if self.multiple else [category_text(value)]
                for slot, text in enumerate(texts):
                    out[row, slot] = id_of(text)
            except ValueRefusedError as error:
                raise ValueRefusedError(f"field {self.name!r}, value {row}: {error}") from None
        return out

    def to_json(self) -> dict[str, Any]:
        """The fitted state."""
        return {"name": self.name, "slots": self.slots, "multiple": self.multiple, "ids": self.ids.to_json()}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> CategoryColumn:
        """Rebuild from ``to_json``."""
        ids = category_ids_from_json(state["name"], state["ids"])
        return cls(state["name"], ids, slots=state["slots"], multiple=state["multiple"])


def _texts(values: object) -> Iterator[str]:
    if not isinstance(values, list | tuple):
        raise ValueRefusedError(f"a list of categories is needed, not {type(values).__name__}")
    return (category_text(each) for each in values if each != "")
