"""DIN's attention against the paper's concatenated form in plain loops."""

from __future__ import annotations

import pytest
import torch

from tests.models.zoo_batches import HISTORY_LENGTH, random_batch, small_network

ITEM_COLUMN = 2


def slow_attention(network, batch, row):
    """The score of each event, one concatenation [c, h, c * h, c - h] at a time; None where none stands."""
    item, unit = network.fields.item.weight, network.unit
    candidate = item[int(batch["item_categories"][row, ITEM_COLUMN])]
    weights = []
    for event in batch["history"][int(batch["row_user"][row])].tolist():
        if event == 0:
            weights.append(None)
            continue
        vector = item[event]
        joined = torch.cat([candidate, vector, candidate * vector, candidate - vector])
        weights.append(unit.rest(unit.first(joined).reshape(1, 1, -1)).reshape(()))
    return weights


WEIGHTS = {
    "softmax": lambda scores: torch.softmax(scores, dim=0),
    "raw": lambda scores: scores,
    "gate": lambda scores: 1 / (1 + torch.exp(-scores)) / len(scores),
}


def expected_attention(network, batch, weigh):
    expected = torch.zeros(len(batch["row_user"]), HISTORY_LENGTH)
    for row in range(len(expected)):
        scores = [score for score in slow_attention(network, batch, row) if score is not None]
        if scores:
            expected[row, : len(scores)] = weigh(torch.stack(scores))
    return expected


@pytest.mark.parametrize("weights", list(WEIGHTS))
@pytest.mark.parametrize("activation", ["dice", "relu"])
def test_attention_is_the_papers_unit_over_each_pair(weights, activation):
    network = small_network("din", weights=weights, attention_activation=activation)
    batch = random_batch(users=6, rows=18)
    network.train()(batch)  # so that Dice has statistics of its own
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            network(batch)["attention"], expected_attention(network, batch, WEIGHTS[weights]), atol=1e-5, rtol=1e-4
        )


def test_the_head_sees_user_features_candidate_and_the_weighted_history():
    network, batch = small_network("din").eval(), random_batch(users=6, rows=18)
    with torch.no_grad():
        outputs, vectors = network(batch), network.fields(batch)
        row_user = batch["row_user"].long()
        interest = torch.einsum("rt,rtd->rd", outputs["attention"], vectors.history[row_user])
        joined = torch.cat([vectors.users[row_user], vectors.rows, vectors.candidate, interest], dim=1)
        expected = network.head.rest(network.head.first.linear(joined)).squeeze(-1)
    torch.testing.assert_close(outputs["like"], expected)


def test_weights_of_a_history_sum_to_one_and_an_empty_history_has_none():
    network, batch = small_network("din").eval(), random_batch(users=3, rows=6)
    attention = network(batch)["attention"]
    empty = batch["history"][batch["row_user"].long()].sum(1) == 0
    assert empty.any()
    assert not attention[empty].any()
    torch.testing.assert_close(attention[~empty].sum(1), torch.ones(int((~empty).sum())))


def test_the_order_of_equal_events_does_not_change_the_score():
    network, batch = small_network("din").eval(), random_batch(users=6, rows=6)
    reversed_history = batch["history"].clone()
    reversed_history[4, :4] = reversed_history[4, :4].flip(0)
    turned = network({**batch, "history": reversed_history})
    torch.testing.assert_close(turned["like"], network(batch)["like"])


def test_weights_differ_between_candidates_of_one_user():
    network, batch = small_network("din").eval(), random_batch(users=1, rows=2)
    batch["history"] = torch.tensor([[1, 2, 3, 4, 5]], dtype=torch.int32)
    batch["item_categories"][:, ITEM_COLUMN] = torch.tensor([1, 9], dtype=torch.int32)
    first, second = network(batch)["attention"]
    assert not torch.allclose(first, second)
