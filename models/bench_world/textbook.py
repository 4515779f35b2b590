"""DeepFM and DIN as their papers write them: what a plain export of a plain network asks of every row.

The user's ids are repeated for each row before anything is computed, all field vectors are laid side by side once, and layers
are plain ``Linear -> BatchNorm -> ReLU``. They are the same functions as those of ``models/zoo``, which keep users and rows
apart. What benchmarks call "textbook" is this, exported, and run by ONNX Runtime with all of its own rewriting.
Only single-valued category fields. One table a view, not one a field: the faster of the usual ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.zoo.din import ATTENTION
from models.zoo.inputs import Batch, NetworkInputs, Outputs
from models.zoo.layers import Dice, masked_softmax

VIEWS = ("user", "context", "item")


@dataclass(frozen=True, slots=True)
class TextbookSizes:
    """Widths of the vectors and of the layers."""

    embedding: int = 16
    hidden: tuple[int, ...] = (256, 128)
    item_embedding: int = 32
    attention_hidden: tuple[int, ...] = (64, 32)


class FieldTables(nn.Module):
    """The fields of one view in one table, each from its own offset on; ``id 0`` of a field is a zero row of its own."""

    offsets: Tensor
    columns: Tensor

    def __init__(self, inputs: NetworkInputs, view: str, size: int, *, without: str | None = None) -> None:
        super().__init__()
        fields = inputs.block(view).categories
        if any(field.slots > 1 for field in fields) or inputs.block(view).numbers:
            raise ValueError("textbook networks take single-valued category fields only")
        chosen = [(place, field) for place, field in enumerate(fields) if field.name != without]
        sizes = [field.cardinality for _, field in chosen]
        offsets = [0, *accumulate(sizes)]
        self.width = len(chosen) * size
        self.all_columns = len(chosen) == len(fields)
        self.register_buffer("columns", torch.tensor([place for place, _ in chosen], dtype=torch.int32), persistent=False)
        self.register_buffer("offsets", torch.tensor(offsets[:-1], dtype=torch.int32), persistent=False)
        self.table = nn.Embedding(offsets[-1], size)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of the view [rows, fields] to vectors [rows, chosen fields, size]."""
        chosen = ids if self.all_columns else ids.index_select(1, self.columns)
        vectors: Tensor = self.table(chosen + self.offsets)
        return vectors


def tiled(batch: Batch) -> dict[str, Tensor]:
    """The batch with the ids of each row's user repeated for the row: all tensors [rows, ...]."""
    row_user = batch["row_user"]
    of_users = {name: ids.index_select(0, row_user) for name, ids in batch.items() if name in _OF_USERS}
    return {**of_users, "item_categories": batch["item_categories"]}


_OF_USERS = ("user_categories", "context_categories", "history")


def plain_mlp(width: int, hidden: Sequence[int]) -> nn.Sequential:
    """Linear -> BatchNorm -> ReLU a layer, then one logit: [rows, width] to [rows, 1]."""
    layers: list[nn.Module] = []
    for before, after in pairwise((width, *hidden)):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))


class TextbookDeepFM(nn.Module):
    """``b + sum w + 0.5 sum ((sum v)^2 - sum v^2) + MLP([v_1 ... v_F])`` (Guo et al., 2017, arXiv 1703.04247)."""

    uses_history: ClassVar[bool] = False

    def __init__(self, sizes: TextbookSizes, inputs: NetworkInputs, label: str) -> None:
        super().__init__()
        self.label = label
        self.bias = nn.Parameter(torch.zeros(1))
        self.weights = nn.ModuleDict({view: FieldTables(inputs, view, 1) for view in VIEWS})
        self.vectors = nn.ModuleDict({view: FieldTables(inputs, view, sizes.embedding) for view in VIEWS})
        fields = sum(len(inputs.block(view).categories) for view in VIEWS)
        self.mlp = plain_mlp(fields * sizes.embedding, sizes.hidden)

    def forward(self, batch: Batch) -> Outputs:
        """A batch to ``{label: logit [rows]}``."""
        rows = tiled(batch)
        weights = torch.cat([self.weights[view](rows[f"{view}_categories"]) for view in VIEWS], dim=1)  # [rows, F, 1]
        vectors = torch.cat([self.vectors[view](rows[f"{view}_categories"]) for view in VIEWS], dim=1)  # [rows, F, d]
        total = vectors.sum(1)
        crosses = 0.5 * (total * total - (vectors * vectors).sum(1)).sum(1)
        logits = self.bias + weights.sum((1, 2)) + crosses + self.mlp(vectors.flatten(1)).squeeze(-1)
        return {self.label: logits}


class TextbookDIN(nn.Module):
    """``MLP([fields, c, sum_t a_t h_t])`` with ``a = softmax_t MLP([c, h_t, c * h_t, c - h_t])``.

    Zhou et al., 2018, arXiv 1706.06978, with Dice in the attention and weights that add up to one.
    """

    uses_history: ClassVar[bool] = True

    def __init__(self, sizes: TextbookSizes, inputs: NetworkInputs, label: str) -> None:
        super().__init__()
        self.label = label
        self.item = nn.Embedding(inputs.item_cardinality, sizes.item_embedding)
        self.item_column = inputs.item.first_column(inputs.item_key)
        self.fields = nn.ModuleDict(
            {view: FieldTables(inputs, view, sizes.embedding, without=inputs.item_key) for view in VIEWS}
        )
        self.attention = nn.Sequential()
        for before, after in pairwise((4 * sizes.item_embedding, *sizes.attention_hidden)):
            self.attention.extend([nn.Linear(before, after), Dice(after)])
        # No bias: a softmax does not see it.
        self.attention.append(nn.Linear(sizes.attention_hidden[-1], 1, bias=False))
        of_fields = sum(len(inputs.block(view).categories) for view in VIEWS) - 1
        self.mlp = plain_mlp(of_fields * sizes.embedding + 2 * sizes.item_embedding, sizes.hidden)

    def forward(self, batch: Batch) -> Outputs:
        """A batch to ``{label: logit [rows], "attention": [rows, T]}``; an empty history gives the zero vector."""
        rows = tiled(batch)
        candidate = self.item(rows["item_categories"][:, self.item_column])  # [rows, d]
        history = self.item(rows["history"])  # [rows, T, d]
        beside = candidate.unsqueeze(1).expand_as(history)
        pairs = torch.cat([beside, history, beside * history, beside - history], dim=-1)  # [rows, T, 4d]
        attention = masked_softmax(self.attention(pairs).squeeze(-1), rows["history"] > 0)
        interest = (attention.unsqueeze(1) @ history).squeeze(1)
        fields = [self.fields[view](rows[f"{view}_categories"]).flatten(1) for view in VIEWS]
        logits = self.mlp(torch.cat([*fields, candidate, interest], dim=1)).squeeze(-1)
        return {self.label: logits, ATTENTION: attention}


TextbookNetwork = TextbookDeepFM | TextbookDIN
