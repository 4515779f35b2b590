"""Shared layers against their formulas, worked out one by one."""

from __future__ import annotations

import pytest
import torch

from models.zoo.inputs import BlockInputs, CategoryInput
from models.zoo.layers import AxisFeatures, Dice, FieldEmbeddings, TwoAxisLinear, masked_softmax, padded_mean
from models.zoo.options import OptionsError, embedding_sizes
from tests.models.zoo_batches import FULL

BLOCK = BlockInputs((CategoryInput("tags", 3, 4), CategoryInput("city", 1, 5), CategoryInput("shop", 1, 3)))


def test_fields_of_one_table_have_their_own_rows_and_share_the_zero_row():
    layer = FieldEmbeddings(BLOCK, ["tags", "city", "shop"], 2)
    assert layer.table.weight.shape == (1 + 3 + 4 + 2, 2)
    ids = torch.tensor([[0, 0, 0, 4, 2], [0, 0, 0, 0, 0]], dtype=torch.int32)
    vectors = layer(ids)  # single-slot fields first: city, shop, tags
    assert torch.equal(vectors[0], torch.stack([layer.table.weight[4], layer.table.weight[4 + 2], torch.zeros(2)]))
    assert not vectors[1].any()


def test_a_field_of_several_values_is_the_mean_of_those_present():
    layer = FieldEmbeddings(BLOCK, ["tags"], 2)
    vectors = layer(torch.tensor([[1, 3, 0, 4, 2], [2, 0, 0, 1, 1]], dtype=torch.int32))
    table = layer.table.weight
    torch.testing.assert_close(vectors[:, 0], torch.stack([(table[1] + table[3]) / 2, table[2]]))


def test_axis_features_hold_every_sized_field_and_every_number():
    sizes = {"user": 2, "hobbies": 3, "device": 2}
    layer = AxisFeatures(FULL, ("user", "context"), sizes)
    batch = {
        "user_categories": torch.tensor([[1, 1, 0, 0]], dtype=torch.int32),
        "user_numbers": torch.tensor([[0.5]]),
        "context_categories": torch.tensor([[3]], dtype=torch.int32),
        "context_numbers": torch.tensor([[7.0, 8.0]]),
    }
    features = layer(batch)
    assert layer.width == features.shape[1] == 2 + 3 + 2 + 1 + 2
    assert features[0, -3:].tolist() == [0.5, 7.0, 8.0]


def test_an_axis_without_fields_has_no_features():
    layer = AxisFeatures(FULL, (), {})
    assert (layer.width, layer({})) == (0, None)


def test_a_two_axis_linear_is_the_linear_layer_over_both_parts():
    layer = TwoAxisLinear(3, 2, 4)
    users, rows, row_user = torch.randn(2, 3), torch.randn(5, 2), torch.tensor([1, 0, 0, 1, 1])
    expected = layer.linear(torch.cat([users[row_user], rows], dim=1))
    torch.testing.assert_close(layer(users, rows, {"row_user": row_user}), expected)


def test_masked_softmax_is_the_softmax_of_the_unmasked_and_zero_without_any():
    scores = torch.tensor([[1.0, 2.0, 9.0], [4.0, -1e30, 0.0], [5.0, 5.0, 5.0]])
    mask = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    weights = masked_softmax(scores, mask)
    torch.testing.assert_close(weights[0, :2], torch.softmax(scores[0, :2], dim=0))
    torch.testing.assert_close(weights[1], torch.softmax(scores[1], dim=0))
    assert weights[0, 2] == 0
    assert not weights[2].any()


def test_the_padded_mean_counts_only_events():
    vectors = torch.tensor([[[2.0, 4.0], [4.0, 8.0], [0.0, 0.0]], [[0.0, 0.0]] * 3])
    mask = torch.tensor([[True, True, False], [False] * 3])
    assert padded_mean(vectors, mask).tolist() == [[3.0, 6.0], [0.0, 0.0]]


def test_dice_bends_by_the_batch_in_training_and_by_running_statistics_in_serving():
    dice, x = Dice(2), torch.randn(4, 3, 2)
    assert [name for name, _ in dice.named_parameters()] == ["alpha"]
    with torch.no_grad():
        dice.alpha.copy_(torch.tensor([0.3, -0.5]))
    flat = x.reshape(-1, 2)
    gate = torch.sigmoid((x - flat.mean(0)) / torch.sqrt(flat.var(0, unbiased=False) + dice.norm.eps))
    torch.testing.assert_close(dice(x), gate * x + (1 - gate) * dice.alpha * x)
    dice.eval()
    gate = torch.sigmoid((x - dice.norm.running_mean) / torch.sqrt(dice.norm.running_var + dice.norm.eps))
    torch.testing.assert_close(dice(x), gate * x + (1 - gate) * dice.alpha * x)


def test_embedding_sizes_follow_the_fields_own_entry_then_the_rule():
    fields = (CategoryInput("city", 1, 10_000), CategoryInput("shop", 1, 16), CategoryInput("flag", 1, 3))
    assert embedding_sizes(fields, 8, 10.0, {"shop": 4}) == {"city": 8, "shop": 4, "flag": 8}
    assert embedding_sizes(fields, "fourth_root", 6.0, {}) == {"city": 60, "shop": 12, "flag": 3}


def test_a_size_for_a_field_that_is_not_there_is_named():
    with pytest.raises(OptionsError, match="no category field 'town'; there are: city"):
        embedding_sizes((CategoryInput("city", 1, 9),), 8, 10.0, {"town": 4})
