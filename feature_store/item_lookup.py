"""The item rows of one request, between the cache's first answer and the store's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from feature_store.encoding.encoder import Block, FeatureEncoder
from feature_store.item_rows import EncodedItems, Mask
from feature_store.item_slots import ABSENT


class Lookup:
    """The rows of one request while they are gathered; complete once ``missing`` is empty or was filled."""

    def __init__(
        self,
        item_ids: Sequence[str],
        encoder: FeatureEncoder,
        items: EncodedItems,
        *,
        held: Mask,
        fresh: Mask,
        stale_fields: Mapping[str, tuple[str, ...]],
        moment: int,
    ) -> None:
        """``stale_fields`` names, for items held, the fields that their rows were made without because they had expired."""
        self.encoder = encoder
        self.moment = moment
        self._items = items
        self._stale_fields = dict(stale_fields)
        self._rows = np.flatnonzero(~fresh)
        ids = [item_ids[row] for row in self._rows.tolist()]
        self._place_of = {item_id: place for place, item_id in enumerate(dict.fromkeys(ids))}
        self._places = np.fromiter(map(self._place_of.__getitem__, ids), np.int64, len(ids))
        self._stale = np.zeros(len(self._place_of), np.bool_)
        self._stale[self._places] = held[self._rows]
        self._complete = not ids

    @property
    def missing(self) -> list[str]:
        """Ids to fetch, each once, in the order of the request."""
        return list(self._place_of)

    @property
    def unknown_count(self) -> int:
        """Rows without their item's own features."""
        return int(np.count_nonzero(~self._items.known))

    @property
    def stale_count(self) -> int:
        """Rows whose features have expired and could not be fetched anew."""
        return int(np.count_nonzero(self._stale[self._places]))

    @property
    def stale_fields(self) -> tuple[str, ...]:
        """Fields that some row was made without because the stored value had expired; sorted."""
        return tuple(sorted(set().union(*self._stale_fields.values()))) if self._stale_fields else ()

    def block(self) -> Block:
        """The encoded rows, in the order of the request.

        Raises:
            RuntimeError: items are missing and ``ItemCache.fill`` was not called.
        """
        if not self._complete:
            raise RuntimeError("the lookup misses items; call ItemCache.fill or fill_defaults first")
        return self._items.block

    def has_stale(self, item_id: str) -> bool:
        """Whether an expired row stands in for the missing item."""
        return bool(self._stale[self._place_of[item_id]])

    def complete(self, item_ids: Sequence[str], items: EncodedItems, stale_fields: Mapping[str, tuple[str, ...]]) -> None:
        """Write the rows of missing items, and their expired fields; the missing that are not named keep what they have."""
        self._stale_fields.update(dict.fromkeys(item_ids, ()))
        self._stale_fields.update(stale_fields)
        source = np.full(len(self._place_of), ABSENT, np.int64)
        named = [self._place_of[item_id] for item_id in item_ids]
        source[named] = np.arange(len(named))
        self._stale[named] = False
        taken = source[self._places]
        rows, taken = self._rows[taken != ABSENT], taken[taken != ABSENT]
        self._items.block.categories[rows] = items.block.categories[taken]
        self._items.block.numbers[rows] = items.block.numbers[taken]
        self._items.known[rows] = items.known[taken]
        self._complete = True
