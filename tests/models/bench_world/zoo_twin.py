"""The zoo's network with a textbook network's weights."""

from __future__ import annotations

import torch

from models.bench_world.publish import recipe_of
from models.zoo.registry import build_network


def zoo_twin(name, textbook, sizes, inputs):
    """``models/zoo``'s network of that name, evaluation mode, every weight and statistic taken over."""
    options = recipe_of(name, sizes, textbook.label, 0).network_options()
    twin = build_network(name, options, inputs, textbook.label).eval()
    with torch.no_grad():
        if name == "deepfm":
            _copy_deepfm(textbook, twin, inputs)
        else:
            _copy_din(textbook, twin, inputs)
    return twin


def _copy_deepfm(textbook, twin, inputs):
    twin.bias.copy_(textbook.bias)
    for view, tables in (("user", twin.users), ("context", twin.users), ("item", twin.rows)):
        both = torch.cat([textbook.weights[view].table.weight, textbook.vectors[view].table.weight], dim=1)
        _copy_table(tables.tables[view], both, inputs.block(view).categories)
    _copy_mlp(textbook.mlp, twin.mlp)


def _copy_din(textbook, twin, inputs):
    fields = twin.fields
    fields.item.load_state_dict(textbook.item.state_dict())
    for view, table in (("user", fields.users.tables[0]), ("context", fields.users.tables[1]), ("item", fields.rows.tables[0])):
        chosen = [field for field in inputs.block(view).categories if field.name != inputs.item_key]
        _copy_table(table, textbook.fields[view].table.weight, chosen)
    twin.unit.first.load_state_dict(textbook.attention[0].state_dict())
    twin.unit.rest.load_state_dict(torch.nn.Sequential(*textbook.attention[1:]).state_dict())
    _copy_mlp(textbook.mlp, twin.head)


def _copy_table(table, weight, fields):
    """The zoo has one zero row for the id 0 of all fields, the textbook one for each field."""
    rows, start = [weight[:1]], 0
    for field in fields:
        rows.append(weight[start + 1 : start + field.cardinality])
        start += field.cardinality
    assert start == len(weight)
    table.table.weight.copy_(torch.cat(rows))


def _copy_mlp(plain, twin):
    """Linear, BatchNorm, ReLU, Linear ... beside a first linear layer and [BatchNorm, activation, Dropout, Linear ...]."""
    twin.first.linear.load_state_dict(plain[0].state_dict())
    for place, layer in {0: 1, 3: 3, 4: 4, 7: 6}.items():
        twin.rest[place].load_state_dict(plain[layer].state_dict())
