"""Rows reach the network whole: every labelled row once an epoch, in an order of seed and epoch."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch

from models.training.batches import RowBatches, ShuffledRowBatches


class NumberedRows:
    """Rows whose only tensor is their own place."""

    def __init__(self, labels):
        self.labels = {"like": np.array(labels, dtype=np.float32)}
        self.users = np.arange(len(labels)) * 10
        self.groups = np.arange(len(labels)) * 100

    def __len__(self):
        return len(self.labels["like"])

    def batch(self, places):
        return {"place": torch.from_numpy(places)}


def places_of(batches):
    return [tensors["place"].tolist() for tensors, _ in batches]


def all_places(batches):
    return list(chain.from_iterable(places_of(batches)))


def test_rows_come_in_table_order_each_with_its_label():
    batches = RowBatches(NumberedRows([0, 1, 1, 0, 1]), "like", batch_rows=2)
    assert all_places(batches) == [0, 1, 2, 3, 4]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 1, 1, 0, 1]
    assert len(batches) == len(list(batches)) == 3


def test_rows_without_the_label_are_left_out():
    batches = RowBatches(NumberedRows([0, np.nan, 1, np.nan]), "like", batch_rows=8)
    assert batches.rows == 2
    assert places_of(batches) == [[0, 2]]
    labelled = batches.labelled()
    assert (labelled.labels.tolist(), labelled.users.tolist(), labelled.groups.tolist()) == ([0, 1], [0, 20], [0, 200])


@pytest.mark.parametrize("rows", [2, 3, 5, 9, 17, 100, 101])
def test_no_batch_is_a_single_row(rows):
    sizes = [len(places) for places in places_of(RowBatches(NumberedRows([0.0] * rows), "like", batch_rows=4))]
    assert sum(sizes) == rows
    assert max(sizes) <= 4
    assert min(sizes) >= 2


def test_no_rows_give_no_batches():
    assert list(RowBatches(NumberedRows([]), "like", batch_rows=4)) == []


def test_every_epoch_is_another_order_of_all_rows_which_the_seed_repeats():
    def epochs(seed):
        batches = ShuffledRowBatches(NumberedRows([0.0] * 50), "like", batch_rows=7, seed=seed)
        orders = []
        for epoch in range(3):
            batches.sampler.set_epoch(epoch)
            orders.append(all_places(batches))
        return orders

    first = epochs(1)
    assert first == epochs(1)
    assert first != epochs(2)
    assert len({tuple(order) for order in first}) == 3
    assert all(sorted(order) == list(range(50)) for order in first)
