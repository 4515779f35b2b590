"""DeepFM against its formula in plain loops."""

from __future__ import annotations

import torch

from tests.models.zoo_batches import FULL, random_batch, small_network


def fields_of_row(network, batch, row):
    """(weight, vector) of every field of one row and its user, by looking ids up one at a time."""
    user = int(batch["row_user"][row])
    pairs = []
    for axis, place in ((network.users, user), (network.rows, row)):
        for view, layer in axis.tables.items():
            block, start = FULL.block(view), 1
            for field in sorted(block.categories, key=lambda field: field.slots > 1):
                first = block.first_column(field.name)
                ids = [i for i in batch[f"{view}_categories"][place, first : first + field.slots].tolist() if i]
                found = [layer.table.weight[start + i - 1] for i in ids]
                both = sum(found) / len(found) if found else torch.zeros(5)
                pairs.append((both[0], both[1:]))
                start += field.cardinality - 1
        for view, factors in axis.numbers.items():
            for number, both in zip(batch[f"{view}_numbers"][place], factors, strict=True):
                pairs.append((number * both[0], number * both[1:]))
    return pairs


def slow_wide_part(network, batch, row):
    pairs = fields_of_row(network, batch, row)
    total = network.bias[0] + sum(weight for weight, _ in pairs)
    for i in range(len(pairs)):
        for j in range(i + 1, len(pairs)):
            total = total + pairs[i][1] @ pairs[j][1]
    return total


def test_the_wide_part_is_every_single_field_and_every_pair_of_fields():
    network, batch = small_network("deepfm").eval(), random_batch(users=4, rows=9)
    torch.nn.init.zeros_(network.mlp.rest[-1].weight)
    with torch.no_grad():
        network.bias.fill_(0.75)
        logits = network(batch)["like"]
        expected = torch.stack([slow_wide_part(network, batch, row) for row in range(9)])
    torch.testing.assert_close(logits, expected)


def test_the_deep_part_is_the_mlp_over_the_same_vectors():
    network, batch = small_network("deepfm").eval(), random_batch(users=4, rows=9)
    with torch.no_grad():
        user_vectors = network.users(batch)[:, :, 1:].flatten(1)
        row_vectors = network.rows(batch)[:, :, 1:].flatten(1)
        together = torch.cat([user_vectors[batch["row_user"].long()], row_vectors], dim=1)
        deep = network.mlp.rest(network.mlp.first.linear(together)).squeeze(-1)
        wide = torch.stack([slow_wide_part(network, batch, row) for row in range(9)])
        torch.testing.assert_close(network(batch)["like"], wide + deep)
