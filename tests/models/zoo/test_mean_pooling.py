"""The mean-pooling baseline against its formula."""

from __future__ import annotations

import torch

from tests.models.zoo_batches import random_batch, small_network


def test_the_interest_is_the_mean_of_the_events_present():
    network, batch = small_network("mean_pooling").eval(), random_batch(users=6, rows=12)
    table, rows = network.fields.item.weight, []
    with torch.no_grad():
        vectors = network.fields(batch)
        for row, user in enumerate(batch["row_user"].tolist()):
            events = [table[event] for event in batch["history"][user].tolist() if event]
            interest = sum(events) / len(events) if events else torch.zeros(6)
            rows.append(torch.cat([vectors.users[user], interest, vectors.rows[row], vectors.candidate[row]]))
        expected = network.head.rest(network.head.first.linear(torch.stack(rows))).squeeze(-1)
        torch.testing.assert_close(network(batch)["like"], expected)
