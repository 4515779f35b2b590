"""Does ONNX Runtime say what torch says? Measured on requests of every shape that serving will see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from models.agreement import TOLERANCE, Arrays, largest_difference, open_session, run_graph
from models.graph import GraphShape, ScoringGraph
from models.manifest import Parity
from models.zoo.inputs import InputTensor, NetworkInputs
from models.zoo.registry import Network

_SEED = 20
_USERS, _ROWS, _MANY_ROWS = 37, 500, 3000


def torch_outputs(network: Network, tensors: Mapping[str, Tensor]) -> Arrays:
    """The outputs of the exported computation, run by torch."""
    with torch.inference_mode():
        outputs = ScoringGraph(network)(tensors)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def measure_parity(
    network: Network, inputs: NetworkInputs, shape: GraphShape, graph: Path, golden: Mapping[str, Tensor]
) -> Parity:
    """Largest absolute difference of any output between the graph and torch, by case.

    Raises:
        ParityError: a difference is above the tolerance of scores or of logits, or not a number.
    """
    session = open_session(graph)
    cases = {"golden_rows": shape.select(golden), **dict(parity_cases(inputs, shape))}
    differences = {
        name: largest_difference(name, torch_outputs(network, tensors), run_graph(session, arrays_of(tensors)))
        for name, tensors in cases.items()
    }
    differences["rows_alone"] = _difference_alone(session, shape, cases["many_users"])
    return Parity(tolerance=TOLERANCE, largest=max(differences.values()), cases=differences)


def arrays_of(tensors: Mapping[str, Tensor]) -> Arrays:
    """The tensors as ONNX Runtime takes them."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def parity_cases(inputs: NetworkInputs, shape: GraphShape) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Random requests over the whole range of every input: (name, tensors)."""
    rng = np.random.default_rng(_SEED)
    sizes = {
        "one_user": (1, _ROWS),
        "many_users": (_USERS, _ROWS),
        "one_row": (1, 1),
        "thousands_of_rows": (2, _MANY_ROWS),
        "one_user_per_row": (_USERS, _USERS),
    }
    for name, (users, rows) in sizes.items():
        yield name, _random_batch(inputs, shape, rng, users, rows)
    if any(tensor.name == "history" for tensor in shape.inputs):
        for name, length in (("empty_history", 0), ("full_history", inputs.history_length)):
            batch = _random_batch(inputs, shape, rng, _USERS, _ROWS)
            history = rng.integers(1, inputs.item_cardinality, batch["history"].shape)
            yield name, {**batch, "history": _padded(history, np.full(_USERS, length))}


def _random_batch(
    inputs: NetworkInputs, shape: GraphShape, rng: np.random.Generator, users: int, rows: int
) -> dict[str, Tensor]:
    return {tensor.name: _random_input(inputs, tensor, rng, users, rows) for tensor in shape.inputs}


def _random_input(inputs: NetworkInputs, tensor: InputTensor, rng: np.random.Generator, users: int, rows: int) -> Tensor:
    count = users if tensor.axis == "users" else rows
    if tensor.name == "row_user":
        return torch.from_numpy(np.sort(rng.integers(0, users, rows)).astype(np.int32))
    if tensor.dtype == "float32":
        return torch.from_numpy(rng.standard_normal((count, tensor.width or 1)).astype(np.float32))
    if tensor.name == "history":
        ids = rng.integers(1, inputs.item_cardinality, (count, inputs.history_length))
        return _padded(ids, rng.integers(0, inputs.history_length + 1, count))
    fields = inputs.block(tensor.name.removesuffix("_categories")).categories
    columns = [
        _padded(rng.integers(0, field.cardinality, (count, field.slots)), _lengths(rng, field.slots, count)) for field in fields
    ]
    return torch.cat(columns, dim=1)


def _lengths(rng: np.random.Generator, slots: int, count: int) -> np.ndarray:
    return rng.integers(0 if slots > 1 else 1, slots + 1, count)


def _padded(ids: np.ndarray, lengths: np.ndarray) -> Tensor:
    """Ids [n, width] as int32 with zeros behind the first ``lengths`` [n]."""
    return torch.from_numpy(np.where(np.arange(ids.shape[1]) < lengths[:, None], ids, 0).astype(np.int32))


def _difference_alone(session: onnxruntime.InferenceSession, shape: GraphShape, batch: Mapping[str, Tensor]) -> float:
    """How far a few rows' outputs move when each is scored alone with its user instead of in the batch."""
    together = run_graph(session, arrays_of(batch))
    differences = []
    for row in range(0, len(next(iter(together.values()))), _ROWS // 10):
        alone = run_graph(session, arrays_of(_single(shape, batch, row)))
        in_batch = {name: values[row : row + 1] for name, values in together.items()}
        differences.append(largest_difference("rows_alone", in_batch, alone))
    return max(differences)


def _single(shape: GraphShape, batch: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    """The batch of one row and its user."""
    user = int(batch["row_user"][row]) if "row_user" in batch else 0
    place = {"users": user, "rows": row}
    single = {tensor.name: batch[tensor.name][place[tensor.axis]].unsqueeze(0) for tensor in shape.inputs}
    if "row_user" in single:
        single["row_user"] = torch.zeros(1, dtype=torch.int32)
    return single
