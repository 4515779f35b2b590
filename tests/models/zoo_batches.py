"""Inputs and batches for tests of networks: every view, several slots, numbers, short and empty histories."""

from __future__ import annotations

import torch

from models.zoo.inputs import BlockInputs, CategoryInput, NetworkInputs
from models.zoo.registry import build_network, network_kind

HISTORY_LENGTH = 5

FULL = NetworkInputs(
    user=BlockInputs((CategoryInput("user", 1, 7), CategoryInput("hobbies", 3, 5)), ("age",)),
    context=BlockInputs((CategoryInput("device", 1, 4),), ("hour", "load")),
    item=BlockInputs((CategoryInput("genres", 2, 6), CategoryInput("item", 1, 11), CategoryInput("maker", 1, 5)), ("price",)),
    candidate=BlockInputs((CategoryInput("place", 1, 4),), ("discount",)),
    item_key="item",
    history_length=HISTORY_LENGTH,
)
ITEM_ONLY = NetworkInputs(
    user=BlockInputs(),
    context=BlockInputs(),
    item=BlockInputs((CategoryInput("item", 1, 11),)),
    candidate=BlockInputs(),
    item_key="item",
    history_length=HISTORY_LENGTH,
)
SMALL = {
    "deepfm": {"embedding_size": 4, "hidden": (8, 4)},
    "din": {"item_embedding_size": 6, "embedding_size": 4, "hidden": (8, 4), "attention_hidden": (7, 3)},
    "mean_pooling": {"item_embedding_size": 6, "embedding_size": 4, "hidden": (8, 4)},
}


def small_network(name, inputs=FULL, *, seed=0, **options):
    """A small network whose weights are large enough to tell terms apart."""
    torch.manual_seed(seed)
    network = build_network(name, network_kind(name).options(**{**SMALL[name], **options}), inputs, "like")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight[1:].normal_()
    return network


def random_batch(inputs=FULL, *, users=3, rows=8, seed=0):
    """A batch whose users have histories of 0, 1, 2 ... events in turn; rows go round the users."""
    generator = torch.Generator().manual_seed(seed)
    batch = {}
    for view, block in inputs.views.items():
        count = users if view in ("user", "context") else rows
        ids = [torch.randint(0, field.cardinality, (count, field.slots), generator=generator) for field in block.categories]
        if ids:
            batch[f"{view}_categories"] = torch.cat(ids, dim=1).to(torch.int32)
        if block.numbers:
            batch[f"{view}_numbers"] = torch.randn(count, len(block.numbers), generator=generator)
    history = torch.randint(1, inputs.item_cardinality, (users, inputs.history_length), generator=generator)
    lengths = torch.arange(users) % (inputs.history_length + 1)
    history[torch.arange(inputs.history_length) >= lengths[:, None]] = 0
    batch["history"] = history.to(torch.int32)
    batch["row_user"] = (torch.arange(rows) % users).to(torch.int32)
    return batch


def rows_of(batch, places):
    """The batch with only the rows at ``places``, in that order; the users stay."""
    per_row = ("item_categories", "item_numbers", "candidate_categories", "candidate_numbers", "row_user")
    return {name: tensor[places] if name in per_row else tensor for name, tensor in batch.items()}


def one_user_per_row(batch):
    """The same rows with the user repeated for each: the shape of training."""
    row_user = batch["row_user"].long()
    per_user = ("user_categories", "user_numbers", "context_categories", "context_numbers", "history")
    tiled = {name: tensor[row_user] if name in per_user else tensor for name, tensor in batch.items()}
    return {**tiled, "row_user": torch.arange(len(row_user), dtype=torch.int32)}
