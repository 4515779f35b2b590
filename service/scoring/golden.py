"""Golden rows: inputs stored beside a model with torch's outputs for them, to be reproduced before it may serve.

The file is a numpy archive with one array a graph input (``input.<name>``, ``row_user`` included) and one a graph output
(``output.<name>``). Here they become one request a user, so that they pass through the very code that serves.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from models.manifest import GOLDEN_INPUT, GOLDEN_OUTPUT, GraphInput, Manifest
from service.scoring.batch import ROW_USER, Array, Scores, ScoringRequest, check_request
from service.scoring.errors import ModelRefusedError, ScoringFailedError


@dataclass(frozen=True, slots=True)
class GoldenRequest:
    """One user's golden rows and the outputs that torch gave for them."""

    request: ScoringRequest
    expected: Mapping[str, Array]

    def error_of(self, scores: Scores) -> float:
        """The largest deviation from torch: absolute up to magnitude 1, relative above; NaN when incomparable."""
        return float(np.max([_deviation(scores.values[name], expected) for name, expected in self.expected.items()]))


@dataclass(frozen=True, slots=True)
class GoldenRows:
    """All golden requests of a version, in the order of the users axis; at least one."""

    requests: tuple[GoldenRequest, ...]

    @classmethod
    def loads(cls, content: bytes, manifest: Manifest) -> Self:
        """Read and check the archive against the manifest's inputs and outputs.

        Raises:
            ModelRefusedError: not such an archive, an array missing or misshapen, no rows.
        """
        arrays = _arrays(content)
        inputs = {each.name: _member(arrays, GOLDEN_INPUT + each.name) for each in manifest.inputs}
        outputs = {each.name: _member(arrays, GOLDEN_OUTPUT + each.name) for each in manifest.outputs}
        row_user = _row_user_of(inputs)
        for name, array in outputs.items():
            _check_output(name, array, len(row_user))
        users = np.unique(row_user)
        return cls(tuple(_request_of(int(user), row_user == user, manifest.inputs, inputs, outputs) for user in users))


def _arrays(content: bytes) -> dict[str, Array]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return dict(archive)
    except Exception as error:  # a dozen kinds: zip, compression, header, memory
        raise ModelRefusedError(f"golden rows: not a numpy archive of plain arrays: {error}") from None


def _member(arrays: Mapping[str, Array], name: str) -> Array:
    array = arrays.get(name)
    if not isinstance(array, np.ndarray):  # a member that is no array is handed over as bytes
        raise ModelRefusedError(f"golden rows: no array {name} in the archive")
    return array


def _row_user_of(inputs: Mapping[str, Array]) -> Array:
    """The user of each row; a graph without a users axis has no such input, and all its rows are one request."""
    row_user = inputs.get(ROW_USER)
    if row_user is None:
        row_user = np.zeros(max((len(array) for array in inputs.values() if array.ndim), default=0), dtype=np.int32)
    if row_user.ndim != 1 or row_user.dtype != np.int32 or not row_user.size or row_user.min() < 0:
        raise ModelRefusedError(f"golden rows: {GOLDEN_INPUT}{ROW_USER} must be int32 [rows], at least one row, none negative")
    return row_user


def _check_output(name: str, array: Array, rows: int) -> None:
    if array.dtype != np.float32 or array.ndim == 0 or len(array) != rows or not np.isfinite(array).all():
        raise ModelRefusedError(f"golden rows: {GOLDEN_OUTPUT}{name} must be finite float32, one entry for each of {rows} rows")


def _request_of(
    user: int, rows: Array, inputs: Sequence[GraphInput], arrays: Mapping[str, Array], outputs: Mapping[str, Array]
) -> GoldenRequest:
    places: dict[str, Any] = {"users": slice(user, user + 1), "rows": np.flatnonzero(rows)}
    try:
        own = {each.name: arrays[each.name][places[each.axis]] for each in inputs if each.name != ROW_USER}
        request = ScoringRequest(own, rows=int(rows.sum()), want_attention=True)
        check_request(request, inputs)
    except (IndexError, ScoringFailedError) as error:
        raise ModelRefusedError(f"golden rows of user {user}: {error}") from None
    return GoldenRequest(request, {name: array[places["rows"]] for name, array in outputs.items()})


def _deviation(found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        return float("nan")
    difference = np.abs(found.astype(np.float64) - expected) / np.maximum(1.0, np.abs(expected))
    return float(difference.max())
