"""Deep Interest Network (Zhou et al., 2018, arXiv 1706.06978).

    s_t = MLP([c, h_t, c * h_t, c - h_t])        logit = MLP([user features, candidate features, c, sum_t a_t h_t])

Parent: mean pooling. The change: the history is weighted anew by each candidate, so that a user has as many interests as
candidates ask for. How scores s_t become weights a_t over a history of n events is the option ``weights``:

- ``softmax``: ``exp s_t / sum exp s``, as the paper's successors have it. How strong an interest is does not show.
- ``raw``: ``s_t``, the paper's form. The strength shows, but so does n: a longer history is a louder one.
- ``gate``: ``sigmoid(s_t) / n``. The strength shows and n does not; at ``s = 0`` it is mean pooling, but for a factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.zoo.history_fields import HistoryFields, HistoryOptions, HistoryVectors
from models.zoo.inputs import Batch, NetworkInputs, Outputs
from models.zoo.layers import TwoAxisMLP, activation_layer, concatenated, init_linears, masked_softmax, to_rows, weight_columns
from models.zoo.options import ActivationName, check_hidden

ATTENTION = "attention"
Weights = Literal["softmax", "raw", "gate"]


@dataclass(frozen=True, slots=True)
class DINOptions(HistoryOptions):
    """The fields and head of ``HistoryOptions``, and the attention unit."""

    attention_hidden: tuple[int, ...] = (256, 128)
    attention_activation: ActivationName = "dice"
    weights: Weights = "softmax"

    def __post_init__(self) -> None:
        # A slotted dataclass is a new class, which zero-argument super() does not find.
        HistoryOptions.__post_init__(self)
        check_hidden(attention_hidden=self.attention_hidden)


class AttentionUnit(nn.Module):
    """Relevance of each history event to each candidate: MLP over ``[c, h, c * h, c - h]``.

    With the first layer's weight as ``[Wc, Wh, Wp, Wd]`` its product is ``(Wc + Wd) c + (Wh - Wd) h + Wp (c * h)``: the second
    term is computed once per user and the input of four widths is never built. ``bias`` is that of the last layer: a softmax
    does not see it.
    """

    def __init__(self, size: int, hidden: tuple[int, ...], activation: ActivationName, *, bias: bool) -> None:
        super().__init__()
        self.first = nn.Linear(4 * size, hidden[0])
        layers: list[nn.Module] = [activation_layer(activation, hidden[0])]
        for before, width in pairwise(hidden):
            layers += [nn.Linear(before, width), activation_layer(activation, width)]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden[-1], 1, bias=bias))

    def forward(self, candidate: Tensor, history: Tensor, row_history: Tensor, batch: Batch) -> Tensor:
        """Candidates [rows, d], histories [users, T, d] and the same [rows, T, d], to scores [rows, T]."""
        of_candidate, of_history, of_product, of_difference = weight_columns(self.first, [candidate.shape[1]] * 4)
        candidates = functional.linear(candidate, of_candidate + of_difference, self.first.bias).unsqueeze(1)  # [rows, 1, H]
        histories = to_rows(functional.linear(history, of_history - of_difference), batch)  # [rows, T, H]
        products = functional.linear(candidate.unsqueeze(1) * row_history, of_product)  # [rows, T, H]
        scores: Tensor = self.rest(products + histories + candidates)
        return scores.squeeze(-1)


class DIN(nn.Module):
    """One interest vector per candidate; an empty history gives the zero vector and zero attention."""

    uses_history: ClassVar[bool] = True

    def __init__(self, options: DINOptions, inputs: NetworkInputs, label: str) -> None:
        super().__init__()
        self.label = label
        self.weights = options.weights
        self.fields = HistoryFields(options, inputs)
        self.unit = AttentionUnit(
            options.item_embedding_size,
            options.attention_hidden,
            options.attention_activation,
            bias=options.weights != "softmax",
        )
        self.head = TwoAxisMLP(
            self.fields.users.width,
            self.fields.rows.width + 2 * options.item_embedding_size,
            options.hidden,
            dropout=options.dropout,
            activation=options.activation,
        )
        init_linears(self)

    def forward(self, batch: Batch) -> Outputs:
        """A batch to ``{label: logit [rows], "attention": [rows, T]}``."""
        vectors = self.fields(batch)
        row_history = to_rows(vectors.history, batch)  # [rows, T, d]
        attention = self._attention(vectors, row_history, batch)
        interest = (attention.unsqueeze(1) @ row_history).squeeze(1)  # [rows, d]
        rows = concatenated(vectors.rows, vectors.candidate, interest)
        return {self.label: self.head(vectors.users, rows, batch), ATTENTION: attention}

    def _attention(self, vectors: HistoryVectors, row_history: Tensor, batch: Batch) -> Tensor:
        """The weight of each event for each row [rows, T]; 0 where the history has no event."""
        scores: Tensor = self.unit(vectors.candidate, vectors.history, row_history, batch)
        mask = to_rows(vectors.mask, batch)
        if self.weights == "softmax":
            return masked_softmax(scores, mask)
        if self.weights == "raw":
            return scores * mask
        return torch.sigmoid(scores) * mask / mask.sum(1, keepdim=True).clamp(min=1)
