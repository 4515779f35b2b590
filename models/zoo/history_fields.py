"""What the history networks share: their inputs as vectors, with one item table for candidates and history.

Mean pooling and DIN differ in one thing only, how the history becomes an interest vector; all else is here, so that a
comparison of the two compares that one thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from models.zoo.inputs import ROWS_VIEWS, USERS_VIEWS, Batch, NetworkInputs
from models.zoo.layers import AxisFeatures, embedding_table
from models.zoo.options import ActivationName, EmbeddingSize, check_dropout, check_hidden, check_positive, embedding_sizes


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """Sizes of fields and head. ``embedding_sizes`` (field -> width) wins over ``embedding_size``; see ``options.py``."""

    item_embedding_size: int = 64
    embedding_size: EmbeddingSize = 16
    embedding_factor: float = 10.0
    embedding_sizes: Mapping[str, int] = field(default_factory=dict)
    hidden: tuple[int, ...] = (256, 128)
    activation: ActivationName = "relu"
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_positive(item_embedding_size=self.item_embedding_size, embedding_factor=self.embedding_factor)
        if self.embedding_size != "fourth_root":
            check_positive(embedding_size=self.embedding_size)
        check_positive(**{f"embedding_sizes.{name}": size for name, size in self.embedding_sizes.items()})
        check_hidden(hidden=self.hidden)
        check_dropout(self.dropout)


@dataclass(frozen=True, slots=True)
class HistoryVectors:
    """One batch as vectors; ``users`` is None when no user or context field is declared."""

    users: Tensor | None
    """[users, width]"""
    rows: Tensor | None
    """[rows, width]: the item's fields but its id, and the candidate's; None when there are none"""
    candidate: Tensor
    """[rows, d]"""
    history: Tensor
    """[users, T, d]"""
    mask: Tensor
    """[users, T], true where an event stands"""


class HistoryFields(nn.Module):
    """Embeds all fields; the item key's table serves the candidate and the history."""

    def __init__(self, options: HistoryOptions, inputs: NetworkInputs) -> None:
        super().__init__()
        views = [inputs.block(view) for view in (*USERS_VIEWS, *ROWS_VIEWS)]
        fields = tuple(each for block in views for each in block.categories if each.name != inputs.item_key)
        sizes = embedding_sizes(fields, options.embedding_size, options.embedding_factor, options.embedding_sizes)
        self.users = AxisFeatures(inputs, USERS_VIEWS, sizes)
        self.rows = AxisFeatures(inputs, ROWS_VIEWS, sizes)
        self.item = embedding_table(inputs.item_cardinality, options.item_embedding_size)
        self.item_column = inputs.item.first_column(inputs.item_key)

    def forward(self, batch: Batch) -> HistoryVectors:
        """A batch to its vectors."""
        return HistoryVectors(
            users=self.users(batch),
            rows=self.rows(batch),
            candidate=self.item(batch["item_categories"][:, self.item_column]),
            history=self.item(batch["history"]),
            mask=batch["history"] > 0,
        )
