"""Weights without training: drawn, then brought to where a trained network's would be.

A network of fresh weights gives all candidates nearly the same score, and any two ways to compute it agree. Here logits are
spread like those of a trained network, and no batch normalization is the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.bench_world.textbook import FieldTables, TextbookDIN, TextbookNetwork
from models.zoo.inputs import Batch
from models.zoo.layers import Dice

LOGIT_STD = 1.5
_VECTOR_STD = 0.12  # of the vectors of 16 fields: their crosses then have a standard deviation of about 0.6
_WEIGHT_STD = 0.1
_ITEM_STD = 1.0  # so that attention tells events apart


@torch.no_grad()
def draw_weights(network: TextbookNetwork, batch: Batch, generator: torch.Generator) -> None:
    """Draw all weights, take the statistics of batch normalization from ``batch``, and spread its logits by ``LOGIT_STD``.

    Args:
        network: changed in place, and left in evaluation mode.
        batch: rows of the data, with users of their own; some hundreds, of many users.
        generator: decides everything.
    """
    for module in network.modules():
        _draw(module, generator)
    if isinstance(network, TextbookDIN):
        network.item.weight.normal_(std=_ITEM_STD, generator=generator)[0] = 0
    _take_statistics(network, batch)
    _spread(network, batch)


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, FieldTables):
        size = module.table.embedding_dim
        module.table.weight.normal_(std=_WEIGHT_STD if size == 1 else _VECTOR_STD, generator=generator)
        module.table.weight[module.offsets] = 0
    elif isinstance(module, nn.Linear):
        module.weight.normal_(std=(2 / module.in_features) ** 0.5, generator=generator)
        if module.bias is not None:
            module.bias.normal_(std=0.1, generator=generator)
    elif isinstance(module, nn.BatchNorm1d) and module.affine:
        module.weight.uniform_(0.6, 1.4, generator=generator)
        module.bias.normal_(std=0.3, generator=generator)
    elif isinstance(module, Dice):
        module.alpha.uniform_(0.0, 0.3, generator=generator)


def _take_statistics(network: TextbookNetwork, batch: Batch) -> None:
    """Means and variances of ``batch``, and of it alone, in every batch normalization."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 1.0
    network.train()
    network(batch)
    network.eval()


def _spread(network: TextbookNetwork, batch: Batch) -> None:
    """Scale the last layer, so that the logits of ``batch`` have mean 0 and a standard deviation of ``LOGIT_STD``."""
    last = network.mlp[-1]
    assert isinstance(last, nn.Linear)
    together = _logits(network, batch)
    drawn = last.weight.clone()
    last.weight.zero_()
    rest = _logits(network, batch)
    last.weight.copy_(drawn * _scale(rest, together - rest))
    last.bias.sub_(_logits(network, batch).mean())


def _scale(rest: Tensor, deep: Tensor) -> float:
    """k > 0 with ``std(rest + k * deep) = LOGIT_STD``: the larger root of its square, a parabola in k."""
    square, product, constant = deep.var(), torch.cov(torch.stack([rest, deep]))[0, 1], rest.var() - LOGIT_STD**2
    if constant >= 0:
        raise ValueError("without the deep part logits are spread too far already")
    return float((torch.sqrt(product**2 - square * constant) - product) / square)


def _logits(network: TextbookNetwork, batch: Batch) -> Tensor:
    logits: Tensor = network(batch)[network.label]
    return logits
