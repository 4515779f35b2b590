"""Layers that the networks share. Shapes: n = rows or users, T = history length, H = hidden width, d = embedding width.

The request-shaped forward pass keeps two axes apart: what depends on the user alone is computed once per user, and
``to_rows`` spreads it over the rows as late as the arithmetic allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.zoo.inputs import Batch, BlockInputs, NetworkInputs
from models.zoo.options import ActivationName

EMBEDDING_STD = 0.01


def to_rows(users: Tensor, batch: Batch) -> Tensor:
    """Values of users [users, ...] to values of rows [rows, ...] by ``row_user``."""
    return users.index_select(0, batch["row_user"])


def embedding_table(cardinality: int, size: int) -> nn.Embedding:
    """A table drawn from N(0, 0.01) whose row 0 is zero and, having no gradient, stays zero."""
    table = nn.Embedding(cardinality, size, padding_idx=0)
    with torch.no_grad():
        table.weight.normal_(std=EMBEDDING_STD)
        table.weight[0].zero_()
    return table


def init_linears(network: nn.Module) -> None:
    """Xavier-normal weights and zero biases for every linear layer of a network (Glorot and Bengio, 2010)."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def concatenated(*parts: Tensor | None) -> Tensor:
    """The parts [n, width] that exist, side by side."""
    return torch.cat([part for part in parts if part is not None], dim=1)


class FieldEmbeddings(nn.Module):
    """Category fields of one view, all of one width, in one concatenated table.

    Id k > 0 of a field lies at the field's offset + k; id 0 of every field is row 0, the zero vector. A field of several
    slots is the mean of its non-zero slots. One table means one Gather in the exported graph.
    """

    columns: Tensor
    offsets: Tensor

    def __init__(self, block: BlockInputs, names: Sequence[str], size: int) -> None:
        super().__init__()
        # Single-slot fields first, so that all of them are one slice of the gathered vectors.
        chosen = sorted((field for field in block.categories if field.name in names), key=lambda field: field.slots > 1)
        columns, offsets, total = list[int](), list[int](), 1
        for field in chosen:
            first = block.first_column(field.name)
            columns += range(first, first + field.slots)
            offsets += [total - 1] * field.slots
            total += field.cardinality - 1
        self.fields = len(chosen)
        self.singles = sum(field.slots == 1 for field in chosen)
        self.many = [field.slots for field in chosen if field.slots > 1]
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int32), persistent=False)
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.int32), persistent=False)
        self.table = embedding_table(total, size)

    def forward(self, block_ids: Tensor) -> Tensor:
        """Ids of the whole view [n, slots] to vectors [n, fields, d]."""
        ids = block_ids.index_select(1, self.columns)
        known = ids > 0
        vectors: Tensor = self.table((ids + self.offsets) * known)  # [n, chosen slots, d]
        if not self.many:
            return vectors
        parts, start = [vectors[:, : self.singles]], self.singles
        for slots in self.many:
            count = known[:, start : start + slots].sum(1, keepdim=True).clamp(min=1)
            parts.append((vectors[:, start : start + slots].sum(1) / count).unsqueeze(1))
            start += slots
        return torch.cat(parts, dim=1)


class AxisFeatures(nn.Module):
    """Every field that ``sizes`` names and every number, of the views of one axis, concatenated: batch -> [n, width]."""

    def __init__(self, inputs: NetworkInputs, views: Sequence[str], sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.width = 0
        self.tables = nn.ModuleList()
        self.table_views: list[str] = []
        self.number_views = [view for view in views if inputs.block(view).numbers]
        for view in views:
            block = inputs.block(view)
            names = [field.name for field in block.categories if field.name in sizes]
            by_size = {size: [name for name in names if sizes[name] == size] for size in (sizes[name] for name in names)}
            self.tables.extend(FieldEmbeddings(block, group, size) for size, group in by_size.items())
            self.table_views += [view] * len(by_size)
            self.width += sum(sizes[name] for name in names) + len(block.numbers)

    def forward(self, batch: Batch) -> Tensor | None:
        """The features [n, width]; None when the axis has none."""
        placed = zip(self.table_views, self.tables, strict=True)
        parts = [table(batch[f"{view}_categories"]).flatten(1) for view, table in placed]
        parts += [batch[f"{view}_numbers"] for view in self.number_views]
        return torch.cat(parts, dim=1) if parts else None


def weight_columns(linear: nn.Linear, widths: Sequence[int]) -> list[Tensor]:
    """The weight [out, in] of a linear layer cut into column blocks of these widths.

    Slices, where ``torch.split`` would read better: ONNX's Split of a constant is not folded away before serving.
    """
    starts = accumulate(widths, initial=0)
    return [linear.weight[:, start : start + width] for start, width in zip(starts, widths, strict=False)]


class TwoAxisLinear(nn.Module):
    """``W [x_user, x_row]`` with the user's share of the product computed once per user.

    ``W = [W_u, W_r]``, so ``W [x_u, x_r] = W_u x_u + W_r x_r`` exactly. No bias: batch normalization follows.
    """

    def __init__(self, users_width: int, rows_width: int, width: int) -> None:
        super().__init__()
        self.widths = (users_width, rows_width)
        self.linear = nn.Linear(users_width + rows_width, width, bias=False)

    def forward(self, users: Tensor | None, rows: Tensor, batch: Batch) -> Tensor:
        """[users, users_width] (None when that width is 0) and [rows, rows_width] to [rows, width]."""
        of_users, of_rows = weight_columns(self.linear, self.widths)
        out = functional.linear(rows, of_rows)
        if users is None:
            return out
        return out + to_rows(functional.linear(users, of_users), batch)


class TwoAxisMLP(nn.Module):
    """Linear -> BatchNorm -> activation -> Dropout per hidden layer, then one logit; the first layer is two-axis."""

    def __init__(
        self, users_width: int, rows_width: int, hidden: tuple[int, ...], *, dropout: float, activation: ActivationName
    ) -> None:
        super().__init__()
        self.first = TwoAxisLinear(users_width, rows_width, hidden[0])
        layers: list[nn.Module] = []
        for place, width in enumerate(hidden):
            if place:
                layers.append(nn.Linear(hidden[place - 1], width, bias=False))
            layers += [nn.BatchNorm1d(width), activation_layer(activation, width), nn.Dropout(dropout)]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def forward(self, users: Tensor | None, rows: Tensor, batch: Batch) -> Tensor:
        """[users, users_width] or None, and [rows, rows_width], to logits [rows]."""
        logits: Tensor = self.rest(self.first(users, rows, batch))
        return logits.squeeze(-1)


class Dice(nn.Module):
    """Dice(x) = p x + (1 - p) alpha x with p = sigmoid(batch-normalized x) (Zhou et al., 2018, section 5.3).

    A PReLU whose bend follows the data. Any leading axes; the last one has ``width`` channels, with an alpha each.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to [..., width]."""
        gate = torch.sigmoid(self.norm(x.flatten(0, -2))).view_as(x)
        return x * (self.alpha + gate * (1 - self.alpha))


def activation_layer(name: ActivationName, width: int) -> nn.Module:
    """The activation called ``name`` for ``width`` channels."""
    return Dice(width) if name == "dice" else nn.ReLU()


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis among the places where ``mask`` holds; all zero where it holds nowhere (no NaN)."""
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, lowest), dim=-1) * mask


def padded_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """Mean of [n, T, d] over the places of ``mask`` [n, T]; the zero vector where it holds nowhere.

    Outside the mask stand zero vectors (embedded padding), so the sum needs no mask.
    """
    return vectors.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
