"""DeepFM (Guo et al., 2017, arXiv 1703.04247).

    logit = b + sum_i w_i x_i + 0.5 sum_k ((sum_i v_ik x_i)^2 - sum_i (v_ik x_i)^2) + MLP([v_1 x_1, ..., v_F x_F])

Parent: Wide & Deep. The change: the wide part is a factorization machine (Rendle, 2010), which needs no hand-made crosses,
and shares its vectors with the deep part. It knows no history: that question is the Deep Interest Network's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.zoo.inputs import ROWS_VIEWS, USERS_VIEWS, Batch, NetworkInputs, Outputs
from models.zoo.layers import EMBEDDING_STD, FieldEmbeddings, TwoAxisMLP, init_linears, to_rows
from models.zoo.options import ActivationName, check_dropout, check_hidden, check_positive


@dataclass(frozen=True, slots=True)
class DeepFMOptions:
    """Sizes of DeepFM; one ``embedding_size`` for all fields, as the factorization machine needs."""

    embedding_size: int = 16
    hidden: tuple[int, ...] = (256, 128)
    activation: ActivationName = "relu"
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_hidden(hidden=self.hidden)
        check_dropout(self.dropout)


class FactorFields(nn.Module):
    """Weight ``w_i x_i`` and vector ``v_i x_i`` of every field of one axis; a category has x = 1, a number its value.

    Weight and vector of an id are neighbours in one table, so that one Gather brings both.
    """

    def __init__(self, inputs: NetworkInputs, views: Sequence[str], size: int) -> None:
        super().__init__()
        blocks = {view: inputs.block(view) for view in views}
        self.fields = sum(len(block.categories) + len(block.numbers) for block in blocks.values())
        self.tables = nn.ModuleDict(
            {
                view: FieldEmbeddings(block, [field.name for field in block.categories], 1 + size)
                for view, block in blocks.items()
                if block.categories
            }
        )
        self.numbers = nn.ParameterDict(
            {
                view: nn.Parameter(torch.randn(len(block.numbers), 1 + size) * EMBEDDING_STD)
                for view, block in blocks.items()
                if block.numbers
            }
        )

    def forward(self, batch: Batch) -> Tensor | None:
        """Weight and vector, side by side, of every field [n, fields, 1 + size]; None when the axis has no field."""
        parts = [table(batch[f"{view}_categories"]) for view, table in self.tables.items()]
        parts += [batch[f"{view}_numbers"].unsqueeze(-1) * factors for view, factors in self.numbers.items()]
        return torch.cat(parts, dim=1) if parts else None


class DeepFM(nn.Module):
    """Factorization machine and MLP over the same vectors; the user's sums are computed once per user."""

    uses_history: ClassVar[bool] = False

    def __init__(self, options: DeepFMOptions, inputs: NetworkInputs, label: str) -> None:
        super().__init__()
        self.label = label
        self.bias = nn.Parameter(torch.zeros(1))
        self.users = FactorFields(inputs, USERS_VIEWS, options.embedding_size)
        self.rows = FactorFields(inputs, ROWS_VIEWS, options.embedding_size)
        self.mlp = TwoAxisMLP(
            self.users.fields * options.embedding_size,
            self.rows.fields * options.embedding_size,
            options.hidden,
            dropout=options.dropout,
            activation=options.activation,
        )
        init_linears(self)

    def forward(self, batch: Batch) -> Outputs:
        """A batch to ``{label: logit [rows]}``."""
        row_single, row_sum, row_vectors = _terms(self.rows(batch))
        users = self.users(batch)
        if users is None:
            deep = self.mlp(None, row_vectors, batch)
            return {self.label: self.bias + row_single + _half_square(row_sum) + deep}
        user_single, user_sum, user_vectors = _terms(users)
        single = row_single + to_rows(user_single, batch)
        pairs = _half_square(row_sum + to_rows(user_sum, batch))
        return {self.label: self.bias + single + pairs + self.mlp(user_vectors, row_vectors, batch)}


def _terms(factors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What one axis adds: ``sum_i (w_i - 0.5 |v_i|^2)`` [n], ``sum_i v_i`` [n, size], and all ``v_i`` [n, fields * size]."""
    total, vectors = factors.sum(1), factors[:, :, 1:].flatten(1)
    return total[:, 0] - 0.5 * vectors.square().sum(1), total[:, 1:], vectors


def _half_square(vectors: Tensor) -> Tensor:
    """``0.5 |v|^2`` of [n, size]."""
    return 0.5 * vectors.square().sum(1)
