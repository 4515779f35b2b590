"""Which tensors a network over given fields reads."""

from __future__ import annotations

import pytest

from models.zoo.inputs import InputTensor, input_tensors
from tests.models.zoo_batches import FULL, ITEM_ONLY


def test_every_block_that_has_fields_is_a_tensor_of_its_width():
    assert input_tensors(FULL, uses_history=True) == (
        InputTensor("user_categories", "int32", "users", 4),
        InputTensor("user_numbers", "float32", "users", 1),
        InputTensor("context_categories", "int32", "users", 1),
        InputTensor("context_numbers", "float32", "users", 2),
        InputTensor("item_categories", "int32", "rows", 4),
        InputTensor("item_numbers", "float32", "rows", 1),
        InputTensor("candidate_categories", "int32", "rows", 1),
        InputTensor("candidate_numbers", "float32", "rows", 1),
        InputTensor("history", "int32", "users", 5),
        InputTensor("row_user", "int32", "rows", None),
    )


@pytest.mark.parametrize(
    ("uses_history", "names"), [(False, ["item_categories"]), (True, ["item_categories", "history", "row_user"])]
)
def test_rows_are_tied_to_users_only_when_users_bring_anything(uses_history, names):
    assert [tensor.name for tensor in input_tensors(ITEM_ONLY, uses_history=uses_history)] == names


def test_columns_of_a_field_follow_those_of_the_fields_before_it():
    assert [FULL.item.first_column(name) for name in ("genres", "item", "maker")] == [0, 2, 3]
    assert (FULL.item_cardinality, FULL.history_length) == (11, 5)
