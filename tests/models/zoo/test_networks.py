"""What every network of the zoo keeps to, whatever its formula."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.zoo.deepfm import DeepFMOptions
from models.zoo.din import DINOptions
from models.zoo.inputs import input_tensors
from models.zoo.options import OptionsError
from models.zoo.registry import NETWORKS, build_network, check_option_names, network_kind
from tests.models.zoo_batches import FULL, HISTORY_LENGTH, ITEM_ONLY, one_user_per_row, random_batch, rows_of, small_network

pytestmark = pytest.mark.parametrize("name", list(NETWORKS))


def scores(network, batch):
    with torch.no_grad():
        return network.eval()(batch)["like"]


def train_steps(network, batch, labels, steps, **adam):
    optimizer = torch.optim.Adam(network.parameters(), **adam)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(network(batch)["like"], labels)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def embedding_tables(network):
    return [module for module in network.modules() if isinstance(module, torch.nn.Embedding)]


@pytest.mark.parametrize("inputs", [FULL, ITEM_ONLY], ids=["full", "item_only"])
@pytest.mark.parametrize(("users", "rows"), [(3, 8), (1, 1), (1, 5)])
def test_a_batch_gives_one_logit_a_row(name, inputs, users, rows):
    outputs = small_network(name, inputs).eval()(random_batch(inputs, users=users, rows=rows))
    assert outputs["like"].shape == (rows,)
    if "attention" in outputs:
        assert outputs["attention"].shape == (rows, HISTORY_LENGTH)


def test_the_network_reads_only_the_inputs_it_declares(name):
    network, batch = small_network(name), random_batch()
    declared = {tensor.name for tensor in input_tensors(FULL, uses_history=network.uses_history)}
    assert ("history" in declared) == network.uses_history
    torch.testing.assert_close(scores(network, {key: batch[key] for key in declared}), scores(network, batch))


def test_a_rows_score_does_not_depend_on_the_other_rows_or_their_order(name):
    network, batch = small_network(name), random_batch(users=6, rows=18)
    together = scores(network, batch)
    shuffled = torch.randperm(18, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(scores(network, rows_of(batch, shuffled)), together[shuffled])
    torch.testing.assert_close(scores(network, rows_of(batch, [7])), together[7:8])


def test_a_user_shared_by_rows_scores_as_a_user_repeated_for_each(name):
    network, batch = small_network(name), random_batch(users=6, rows=18)
    torch.testing.assert_close(scores(network, one_user_per_row(batch)), scores(network, batch))


def test_every_field_of_a_row_and_of_its_user_reaches_the_score(name):
    network, batch = small_network(name), random_batch(users=1, rows=1, seed=3)
    batch["history"][:, 0] = 4
    before = scores(network, batch)
    for tensor in input_tensors(FULL, uses_history=network.uses_history):
        if tensor.name == "row_user":
            continue
        for column in range(tensor.width):
            changed = {**batch, tensor.name: batch[tensor.name].clone()}
            changed[tensor.name][0, column] = 1 if changed[tensor.name][0, column] != 1 else 2
            assert not torch.equal(scores(network, changed), before), (tensor.name, column)


def test_missing_ids_embed_to_zero_before_and_after_training(name):
    network, batch = small_network(name), random_batch(users=6, rows=12)
    assert any((batch[key] == 0).any() for key in ("user_categories", "item_categories"))
    train_steps(network, batch, torch.tensor([0.0, 1.0] * 6), 5, lr=0.1, weight_decay=0.1)
    for table in embedding_tables(network):
        assert not table.weight[0].any()


def test_the_gradient_reaches_every_parameter(name):
    network, batch = small_network(name), random_batch(users=40, rows=200)
    functional.binary_cross_entropy_with_logits(network.train()(batch)["like"], torch.tensor([0.0, 1.0] * 100)).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.any(), parameter_name


def test_64_rows_can_be_learned_by_heart(name):
    network = small_network(name, hidden=(32, 16), dropout=0.0)
    batch = one_user_per_row(random_batch(users=64, rows=64))
    labels = (torch.arange(64) % 3 == 0).float()
    assert train_steps(network, batch, labels, 100, lr=0.02) < 0.01


@pytest.mark.parametrize("history", [0, 3], ids=["empty", "full"])
def test_empty_and_full_histories_score_finitely_in_training_and_serving(name, history):
    batch = {**random_batch(), "history": torch.full((3, HISTORY_LENGTH), history, dtype=torch.int32)}
    network = small_network(name)
    loss = network.train()(batch)["like"].sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)
    assert torch.isfinite(scores(network, batch)).all()


def test_the_same_seed_draws_the_same_network(name):
    first, second = small_network(name, seed=5), small_network(name, seed=5)
    for left, right in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(left, right)


def test_an_unknown_option_is_named_with_the_known_ones(name):
    with pytest.raises(OptionsError, match=f"{name} has no option 'hidden_widths'; it has .*hidden"):
        check_option_names(name, ["hidden_widths"])


def test_options_of_another_network_are_refused(name):
    wrong = DINOptions() if name != "din" else DeepFMOptions()
    with pytest.raises(OptionsError, match=f"{name} takes"):
        build_network(name, wrong, FULL, "like")


@pytest.mark.parametrize("label", ["attention", "history", "row_user", "item_categories"])
def test_a_label_cannot_take_the_name_of_a_tensor(name, label):
    with pytest.raises(OptionsError, match=f"cannot be called '{label}'"):
        build_network(name, network_kind(name).options(), FULL, label)
