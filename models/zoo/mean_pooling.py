"""Mean pooling: embedding and MLP with the mean of the history's item vectors as the user's interest.

    logit = MLP([user features, mean_t e(h_t), candidate features, e(c)])

Parent: Deep Crossing's embedding + MLP, with YouTube DNN's averaged watch history (Covington et al., 2016). It is the "base
model" that the Deep Interest Network's paper measures against: same head, same inputs, but one interest for all candidates.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from models.zoo.history_fields import HistoryFields, HistoryOptions
from models.zoo.inputs import Batch, NetworkInputs, Outputs
from models.zoo.layers import TwoAxisMLP, concatenated, init_linears, padded_mean


class MeanPooling(nn.Module):
    """The head of DIN over a plain mean, which never leaves the users axis."""

    uses_history: ClassVar[bool] = True

    def __init__(self, options: HistoryOptions, inputs: NetworkInputs, label: str) -> None:
        super().__init__()
        self.label = label
        self.fields = HistoryFields(options, inputs)
        self.head = TwoAxisMLP(
            self.fields.users.width + options.item_embedding_size,
            self.fields.rows.width + options.item_embedding_size,
            options.hidden,
            dropout=options.dropout,
            activation=options.activation,
        )
        init_linears(self)

    def forward(self, batch: Batch) -> Outputs:
        """A batch to ``{label: logit [rows]}``."""
        vectors = self.fields(batch)
        interest = padded_mean(vectors.history, vectors.mask)  # [users, d]
        users = concatenated(vectors.users, interest)
        rows = concatenated(vectors.rows, vectors.candidate)
        return {self.label: self.head(users, rows, batch)}
