"""Rows that prove a served model equal to the trained one: a few test users, one with no history, and candidates for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models.training.batches import Places
from models.training.row_store import RawRow
from models.zoo.inputs import NetworkInputs, input_tensors

USERS = 4
CANDIDATES = 6


class GoldenSource(Protocol):
    """The test rows, encoded and raw."""

    def __len__(self) -> int: ...
    def batch(self, places: Places) -> dict[str, Tensor]: ...
    def raw(self, place: int) -> RawRow: ...


@dataclass(frozen=True, slots=True)
class GoldenRows:
    """The same requests twice: as one request-shaped batch of tensors, and as raw values, one request a user."""

    tensors: dict[str, Tensor]
    requests: list[dict[str, Any]]


def choose_golden_rows(test: GoldenSource, inputs: NetworkInputs) -> GoldenRows:
    """``USERS`` users, the last a second time with an empty history, each with ``CANDIDATES`` rows spread over the test set.

    User, context and history are as of the user's own test row; candidates are other test rows' items.
    """
    users = np.linspace(0, len(test) - 1, USERS).astype(np.int64)
    users = np.append(users, users[-1])
    rows = np.linspace(0, len(test) - 1, len(users) * CANDIDATES).astype(np.int64)
    of_users, of_rows = test.batch(users), test.batch(rows)
    of_users["history"][-1] = 0
    tensors = {
        tensor.name: (of_users if tensor.axis == "users" else of_rows)[tensor.name]
        for tensor in input_tensors(inputs, uses_history=True)
    }
    tensors["row_user"] = torch.arange(len(users), dtype=torch.int32).repeat_interleave(CANDIDATES)
    requests = [_request(test, user, mine) for user, mine in zip(users, rows.reshape(len(users), -1), strict=True)]
    requests[-1]["history"] = []
    return GoldenRows(tensors, requests)


def _request(test: GoldenSource, user: int, rows: Iterable[int]) -> dict[str, Any]:
    row = test.raw(int(user))
    candidates = [test.raw(int(place)) for place in rows]
    return {
        "user_id": row.user_id,
        "user": dict(row.user),
        "context": dict(row.context),
        "history": list(row.history_items),
        "candidates": [
            {"item_id": each.item_id, "item": dict(each.item), "candidate": dict(each.candidate)} for each in candidates
        ],
    }
