"""How requests become one run and its outputs theirs again. Pure functions over arrays; ragged, nothing is padded.

A request stands for one user: each of its users-axis inputs has one entry, each of its rows-axis inputs one entry a row.
``row_user`` ties the two axes of the merged batch together. It is made here and is never part of a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.manifest import GraphInput
from service.scoring.errors import ScoringFailedError

Array = npt.NDArray[Any]

ROW_USER = "row_user"
ATTENTION = "attention"


class ScoringRequest(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One user and ``rows`` candidates, encoded.

    ``inputs``: users-axis arrays of shape [1, width], rows-axis arrays of shape [rows, width] (vectors without the width), or
    what numpy makes such an array of at the last moment (``SharedRows``).
    Inputs that the model's graph does not have are left aside, so that one encoding serves models that use less of it.
    """

    inputs: Mapping[str, Array]
    rows: int
    want_attention: bool = False


class Scores(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One request's outputs by name: float32 [rows] each, and ``attention`` [rows, history length] if it was asked for."""

    values: Mapping[str, Array]


class Scored(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One request's scores, how long it waited for its run, and how long the run took (shared with its batch)."""

    scores: Scores
    queue_ms: float
    score_ms: float


def check_request(request: ScoringRequest, inputs: Sequence[GraphInput]) -> None:
    """Check that a request fits the graph, exactly: nothing is cast, broadcast or transposed.

    Raises:
        ScoringFailedError: names the input, what it needs and what it got.
    """
    if request.rows < 1:
        raise ScoringFailedError(f"a request needs at least one row, not {request.rows}")
    for each in inputs:
        if each.name == ROW_USER:
            continue
        length = 1 if each.axis == "users" else request.rows
        shape = (length,) if each.width is None else (length, each.width)
        array = request.inputs.get(each.name)
        if array is None:
            raise ScoringFailedError(f"input {each.name}: missing; {each.dtype} {list(shape)} is needed")
        if array.dtype != each.dtype or array.shape != shape:
            raise ScoringFailedError(
                f"input {each.name}: {each.dtype} {list(shape)} is needed, not {array.dtype} {list(array.shape)}"
            )


def merge(requests: Sequence[ScoringRequest], inputs: Sequence[GraphInput]) -> dict[str, Array]:
    """Requests that passed ``check_request`` to the feeds of one run: arrays joined along their first axis, in order."""
    feeds: dict[str, Array] = {}
    alone = requests[0].inputs if len(requests) == 1 else None
    for each in inputs:
        name = each.name
        if name == ROW_USER:
            feeds[name] = _row_users(requests)
        elif alone is not None:
            feeds[name] = np.asarray(alone[name])
        else:
            feeds[name] = np.concatenate([request.inputs[name] for request in requests])
    return feeds


def _row_users(requests: Sequence[ScoringRequest]) -> Array:
    if len(requests) == 1:
        return np.zeros(requests[0].rows, np.int32)
    return np.repeat(np.arange(len(requests), dtype=np.int32), [request.rows for request in requests])


def split(outputs: Mapping[str, Array], requests: Sequence[ScoringRequest]) -> list[Scores]:
    """The outputs of one run, [all rows] or [all rows, history length], to each request's own rows.

    Slices are copied: a view would keep the whole batch alive for as long as one answer is. A request that was alone has all.

    Raises:
        ValueError: an output has not one entry a row.
    """
    if len(requests) == 1:
        _check_entries(outputs, requests[0].rows)
        return [Scores(outputs if requests[0].want_attention else _without_attention(outputs))]
    starts = list(accumulate((request.rows for request in requests), initial=0))
    _check_entries(outputs, starts[-1])
    plain = _without_attention(outputs)
    return [
        Scores(
            {
                name: array[start : start + request.rows].copy()
                for name, array in (outputs if request.want_attention else plain).items()
            }
        )
        for start, request in zip(starts, requests, strict=False)
    ]


def _check_entries(outputs: Mapping[str, Array], rows: int) -> None:
    for name, array in outputs.items():
        if len(array) != rows:
            raise ValueError(f"output {name}: {len(array)} entries for {rows} rows")


def _without_attention(outputs: Mapping[str, Array]) -> Mapping[str, Array]:
    if ATTENTION not in outputs:
        return outputs
    return {name: array for name, array in outputs.items() if name != ATTENTION}


def divide(request: ScoringRequest, start: int, stop: int) -> ScoringRequest:
    """The rows ``start`` to ``stop`` of a request of several rows, as views.

    What is of the user has one entry and goes with each part; what has as many entries as the request has rows is sliced.
    """
    inputs = {
        name: array[start:stop] if array.ndim and array.shape[0] == request.rows else array
        for name, array in request.inputs.items()
    }
    return ScoringRequest(inputs, stop - start, request.want_attention)


def join(parts: Sequence[Scores]) -> Scores:
    """The scores of a divided request from those of all its parts, in order."""
    if len(parts) == 1:
        return parts[0]
    return Scores({name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values})
