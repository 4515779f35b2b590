"""Networks as textbooks write them: the user's values tiled to rows at once, everything concatenated, plain layers.
Untrained.
"""

import numpy as np
import onnx
import torch
from torch import nn

from models.graph import write_graph
from models.manifest import GraphInput
from models.zoo.inputs import InputTensor

IDS = 50
_AXES = {"user_categories": "users", "user_numbers": "users", "history": "users"}


def _layers(size, hidden, *, norm):
    layers = []
    for width in hidden:
        layers += [nn.Linear(size, width), *([nn.BatchNorm1d(width)] if norm else []), nn.ReLU()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, 1))


class TextbookDeepFM(nn.Module):
    """One table of vectors and one of weights for all fields, over one concatenation of ids."""

    label, uses_history = "like", False

    def __init__(self, fields=(4, 3, 1), size=4, hidden=(12, 6)):
        super().__init__()
        self.fields = fields
        total = sum(fields)
        self.register_buffer("offsets", torch.arange(total, dtype=torch.int32) * IDS)
        self.vectors, self.weights = nn.Embedding(total * IDS, size), nn.Embedding(total * IDS, 1)
        self.mlp = _layers(total * size, hidden, norm=True)

    def forward(self, batch):
        users = batch["user_categories"].index_select(0, batch["row_user"])
        rows = [batch[name] for name in ("item_categories", "candidate_categories") if name in batch]
        ids = torch.cat([users, *rows], dim=1) + self.offsets
        v = self.vectors(ids)
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        return {self.label: self.weights(ids).sum(1).squeeze(-1) + pairs + self.mlp(v.flatten(1)).squeeze(-1)}

    @property
    def inputs(self):
        widths = dict(zip(("user_categories", "item_categories", "candidate_categories"), self.fields, strict=True))
        return _declared({name: width for name, width in widths.items() if width})


class TextbookDIN(nn.Module):
    """The attention's first layer over [c, h, c * h, c - h], the head's over all vectors."""

    label, uses_history = "like", True

    def __init__(self, size=4, length=6, attention=(8, 5), hidden=(12, 6), fields=3):
        super().__init__()
        self.length, self.fields = length, fields
        self.item, self.user = nn.Embedding(IDS, size), nn.Embedding(IDS, size)
        self.unit = _layers(4 * size, attention, norm=False)
        self.head = _layers((fields + 2) * size, hidden, norm=True)

    def forward(self, batch):
        history = batch["history"].index_select(0, batch["row_user"])
        users = self.user(batch["user_categories"].index_select(0, batch["row_user"])).flatten(1)
        h, mask = self.item(history), history > 0
        c = self.item(batch["item_categories"][:, 0])
        repeated = c.unsqueeze(1).expand(-1, self.length, -1)
        scores = self.unit(torch.cat([repeated, h, repeated * h, repeated - h], dim=-1)).squeeze(-1)
        weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(torch.float32).min), dim=-1) * mask
        interest = (weights.unsqueeze(1) @ h).squeeze(1)
        return {self.label: self.head(torch.cat([users, c, interest], dim=1)).squeeze(-1), "attention": weights}

    @property
    def inputs(self):
        return _declared({"user_categories": self.fields, "history": self.length, "item_categories": 2})


def _declared(widths):
    axes = {name: _AXES.get(name, "rows") for name in widths}
    declared = [GraphInput(name=name, dtype="int32", axis=axes[name], width=width) for name, width in widths.items()]
    return [*declared, GraphInput(name="row_user", dtype="int32", axis="rows", width=None)]


class _Shape:
    def __init__(self, inputs, outputs):
        self.inputs, self.outputs = inputs, outputs

    def select(self, tensors):
        return {each.name: tensors[each.name] for each in self.inputs}


def exported(network, path, *, seed=0):
    """The network with unlike weights and statistics, exported; returns the graph."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(std=0.5, generator=generator)
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.3, 2, generator=generator)
    inputs = [InputTensor(each.name, each.dtype, each.axis, each.width) for each in network.inputs]
    network.eval()
    example = {each.name: torch.from_numpy(np.ones((2, each.width) if each.width else 2, np.int32)) for each in inputs}
    example["row_user"] = torch.tensor([0, 1], dtype=torch.int32)
    write_graph(network, _Shape(inputs, tuple(network(example))), example, path)
    return onnx.load(path)
