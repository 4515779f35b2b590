"""The last guard in front of the embedding tables: no category id outside its table reaches a batch.

An id that is too large fails the whole ONNX Runtime call on a CPU and reads zeros on a GPU; -1 silently reads the last row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from feature_store.encoding.encoder import HISTORY_INPUT, VIEWS, FeatureEncoder
from models.manifest import GraphInput
from service.scoring.batch import ScoringRequest
from service.scoring.errors import ScoringFailedError


@dataclass(frozen=True, slots=True)
class IdRanges:
    """Number of ids, by graph input that holds ids: uint32 [slots], or [1] where all slots share one table."""

    cardinalities: Mapping[str, npt.NDArray[np.uint32]]

    @classmethod
    def of(cls, encoder: FeatureEncoder, inputs: Iterable[GraphInput]) -> Self:
        """The ranges of the ids that this encoder gives to these inputs."""
        sizes = {HISTORY_INPUT: [encoder.item_key_column.ids.cardinality]}
        for view in VIEWS:
            columns = encoder.views[view].categories
            sizes[f"{view}_categories"] = [column.ids.cardinality for column in columns for _ in range(column.slots)]
        return cls({each.name: np.array(sizes[each.name], dtype=np.uint32) for each in inputs if each.name in sizes})

    def check(self, request: ScoringRequest) -> None:
        """Check every id of a request whose shapes were checked.

        Raises:
            ScoringFailedError: names the input, the row, the slot and the id.
        """
        inputs = request.inputs
        for name, sizes in self.cardinalities.items():
            ids = inputs.get(name)
            if ids is None:
                continue  # the form that will score the request does not read it
            # Read as unsigned, a negative id is larger than any table: one comparison sees both ends.
            outside = ids.view(np.uint32) >= sizes
            if np.count_nonzero(outside):  # a fifth of what any() takes for so few
                row, slot = np.argwhere(outside)[0]
                size = sizes[slot % len(sizes)]
                raise ScoringFailedError(f"input {name}, row {row}, slot {slot}: id {ids[row, slot]} is not in 0..{size - 1}")
