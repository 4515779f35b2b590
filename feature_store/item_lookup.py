"""The item rows of one request, between the cache's first answer and the store's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from feature_store.encoding.encoder import Block, FeatureEncoder, Floats
from feature_store.item_rows import EncodedItems, LateBlock, Mask
from feature_store.item_slots import ABSENT
from feature_store.item_table import ItemTable, SharedRows


class Gaps:
    """The rows of a request that are not fresh: which items they miss, and for which an expired row stands in."""

    __slots__ = ("_place_of", "_places", "_rows", "_stale")

    def __init__(self, item_ids: Sequence[str], *, held: Mask, fresh: Mask) -> None:
        self._rows = np.flatnonzero(~fresh)
        ids = [item_ids[row] for row in self._rows.tolist()]
        self._place_of = {item_id: place for place, item_id in enumerate(dict.fromkeys(ids))}
        self._places = np.fromiter(map(self._place_of.__getitem__, ids), np.int64, len(ids))
        self._stale = np.zeros(len(self._place_of), np.bool_)
        self._stale[self._places] = held[self._rows]

    @property
    def ids(self) -> list[str]:
        """The missing items, each once, in the order of the request."""
        return list(self._place_of)

    @property
    def stale_count(self) -> int:
        """Rows for which an expired one stands in."""
        return int(np.count_nonzero(self._stale[self._places]))

    def is_stale(self, item_id: str) -> bool:
        """Whether an expired row stands in for the missing item."""
        return bool(self._stale[self._place_of[item_id]])

    def fill(self, item_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Missing items that now have rows: the request's rows to write, and for each the place in ``item_ids``."""
        source = np.full(len(self._place_of), ABSENT, np.int64)
        named = [self._place_of[item_id] for item_id in item_ids]
        source[named] = np.arange(len(named))
        self._stale[named] = False
        taken = source[self._places]
        return self._rows[taken != ABSENT], taken[taken != ABSENT]


class Lookup:
    """The rows of one request while they are gathered; complete once ``missing`` is empty or was filled."""

    __slots__ = ("_complete", "_gaps", "_known", "_part", "_rows", "_stale_fields", "encoder", "moment", "table")

    def __init__(
        self,
        encoder: FeatureEncoder,
        rows: Block | LateBlock,
        known: Mask,
        *,
        gaps: Gaps | None,
        stale_fields: Mapping[str, tuple[str, ...]],
        moment: int,
        table: ItemTable | None = None,
        part: Floats | SharedRows | None = None,
    ) -> None:
        """``stale_fields`` names, for items held, the fields that their rows were made without because they had expired.

        Rows with ``gaps`` must be copies. ``part`` holds the rows of ``table``.
        """
        self.encoder = encoder
        self.moment = moment
        self.table = table
        self._rows = rows
        self._known = known
        self._part = part
        self._gaps = gaps
        self._stale_fields = stale_fields
        self._complete = gaps is None

    @property
    def missing(self) -> list[str]:
        """Ids to fetch, each once, in the order of the request."""
        return [] if self._gaps is None else self._gaps.ids

    @property
    def unknown_count(self) -> int:
        """Rows without their item's own features."""
        return len(self._known) - int(np.count_nonzero(self._known))

    @property
    def stale_count(self) -> int:
        """Rows whose features have expired and could not be fetched anew."""
        return 0 if self._gaps is None else self._gaps.stale_count

    @property
    def stale_fields(self) -> tuple[str, ...]:
        """Fields that some row was made without because the stored value had expired; sorted."""
        return tuple(sorted(set().union(*self._stale_fields.values()))) if self._stale_fields else ()

    def block(self) -> Block:
        """The encoded rows, in the order of the request, as they were when the lookup began and was filled.

        Raises:
            RuntimeError: items are missing and ``ItemCache.fill`` was not called.
        """
        self._check_complete()
        if isinstance(self._rows, LateBlock):
            self._rows = self._rows.block()
        return self._rows

    def item_part(self) -> Floats | SharedRows | None:
        """The table's rows of the items, float32 [rows, width], in the order of the request; None without a table.

        Raises:
            RuntimeError: items are missing and ``ItemCache.fill`` was not called.
        """
        self._check_complete()
        return self._part

    def has_stale(self, item_id: str) -> bool:
        """Whether an expired row stands in for the missing item."""
        return self._gaps is not None and self._gaps.is_stale(item_id)

    def complete(
        self,
        item_ids: Sequence[str],
        items: EncodedItems,
        stale_fields: Mapping[str, tuple[str, ...]],
        part: Floats | None = None,
    ) -> None:
        """Write the rows of missing items, and their expired fields; the missing that are not named keep what they have."""
        if self._gaps is None or isinstance(self._rows, LateBlock):
            return
        self._stale_fields = {**self._stale_fields, **dict.fromkeys(item_ids, ()), **stale_fields}
        rows, taken = self._gaps.fill(item_ids)
        self._rows.categories[rows] = items.block.categories[taken]
        self._rows.numbers[rows] = items.block.numbers[taken]
        self._known[rows] = items.known[taken]
        if isinstance(self._part, np.ndarray) and part is not None:
            self._part[rows] = part[taken]
        self._complete = True

    def _check_complete(self) -> None:
        if not self._complete:
            raise RuntimeError("the lookup misses items; call ItemCache.fill or fill_defaults first")
