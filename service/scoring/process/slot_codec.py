"""Requests and answers as bytes of a slot: a fixed header, 16 bytes about each array, the arrays. No pickling, no copy to read.

Arrays are named by their place in a list of names that both sides make from the version's manifest (``input_names``,
``output_names``), are int32 or float32, and have one or two axes. Deadlines are moments of ``time.monotonic``, which is one
clock for all processes of a machine. A reader trusts no length or offset: what points outside its slot is refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.manifest import Manifest
from service.scoring.batch import ROW_USER, Array, ScoringRequest
from service.scoring.process.errors import ProtocolError, SlotTooSmallError
from service.scoring.process.region import Region

_REQUEST = struct.Struct("<QddIIII")
_WANTED = struct.Struct("<I")
_WANTED_AT = _REQUEST.size
_ANSWER = struct.Struct("<QddIIII")
_ANSWER_AT = 64
_ARRAY = struct.Struct("<HBBIII")
_DTYPES = (np.dtype(np.int32), np.dtype(np.float32))
_CODES = {dtype: code for code, dtype in enumerate(_DTYPES)}
_ITEM_BYTES = 4
_ALIGN = 64
_LARGEST_TEXT = 2_000

SCORED, FAILED, EXPIRED, UNKNOWN_MODEL = range(4)
"""How a request ended. ``EXPIRED``: nobody wanted it any more, and it was not run."""


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """``sequence``: the front-end's own number, repeated in the answer. ``handle``: its number for the model."""

    sequence: int
    deadline: float
    submitted_at: float
    handle: int
    rows: int
    want_attention: bool
    arrays: int


@dataclass(frozen=True, slots=True)
class AnswerHeader:
    """``length``: arrays of a ``SCORED`` answer, else bytes of the reason.

    ``batch_requests`` and ``batch_rows`` are of the run, in the first answer of the batch, and 0 in all others: counted once.
    """

    sequence: int
    queue_s: float
    run_s: float
    code: int
    length: int
    batch_requests: int = 0
    batch_rows: int = 0


def input_names(manifest: Manifest) -> tuple[str, ...]:
    """Every array a request for this version may bring, in an order that both sides agree on."""
    named = {each.name for each in manifest.inputs}
    if manifest.collapsed is not None:
        for form in (manifest.collapsed.one_user, manifest.collapsed.many_users):
            named.update(each.name for each in form.inputs)
    return tuple(sorted(named - {ROW_USER}))


def output_names(manifest: Manifest) -> tuple[str, ...]:
    """Every array an answer of this version may bring."""
    return tuple(each.name for each in manifest.outputs)


def bytes_of(arrays: int, items: int) -> int:
    """The payload that so many arrays need at most, with so many elements altogether."""
    return arrays * (_ARRAY.size + _ALIGN) + _ALIGN + items * _ITEM_BYTES


def write_request(region: Region, slot: int, header: RequestHeader, request: ScoringRequest, names: Mapping[str, int]) -> None:
    """Fill a slot; inputs without a number among ``names`` are left out, for the model does not read them.

    Raises:
        SlotTooSmallError: the arrays do not fit; the slot holds nothing then.
    """
    arrays = {names[name]: np.asarray(array) for name, array in request.inputs.items() if name in names}
    _write_arrays(region, slot, arrays)
    at = region.headers_at(slot)
    _WANTED.pack_into(region.memory, at + _WANTED_AT, 1)
    _REQUEST.pack_into(
        region.memory,
        at,
        header.sequence,
        header.deadline,
        header.submitted_at,
        header.handle,
        header.rows,
        header.want_attention,
        len(arrays),
    )


def read_request_header(region: Region, slot: int) -> RequestHeader:
    """The header of a slot that was handed over."""
    sequence, deadline, submitted_at, handle, rows, attention, arrays = _REQUEST.unpack_from(
        region.memory, region.headers_at(slot)
    )
    return RequestHeader(sequence, deadline, submitted_at, handle, rows, attention != 0, arrays)


def read_request(region: Region, slot: int, header: RequestHeader, names: Sequence[str]) -> ScoringRequest:
    """The request, its arrays being views of the slot.

    Raises:
        ProtocolError: the bytes describe no arrays of this slot.
    """
    return ScoringRequest(_read_arrays(region, slot, header.arrays, names), header.rows, header.want_attention)


def drop(region: Region, slot: int) -> None:
    """Nobody waits for the slot's answer any more: it need not be computed."""
    _WANTED.pack_into(region.memory, region.headers_at(slot) + _WANTED_AT, 0)


def is_wanted(region: Region, slot: int) -> bool:
    """Whether its caller still waits; a stale yes costs one needless run."""
    return bool(_WANTED.unpack_from(region.memory, region.headers_at(slot) + _WANTED_AT)[0])


def write_scores(
    region: Region, slot: int, header: AnswerHeader, values: Mapping[str, Array], names: Mapping[str, int]
) -> None:
    """Write a ``SCORED`` answer over the request that it answers.

    Raises:
        SlotTooSmallError: the outputs do not fit.
    """
    _write_arrays(region, slot, {names[name]: array for name, array in values.items()})
    _write_answer_header(region, slot, header, SCORED, len(values))


def write_reason(region: Region, slot: int, header: AnswerHeader, reason: str) -> None:
    """Write why there are no scores; ``header.code`` says of what kind it is."""
    text = reason.encode(errors="replace")[:_LARGEST_TEXT]
    at = region.payload_at(slot)
    region.memory[at : at + len(text)] = text
    _write_answer_header(region, slot, header, header.code, len(text))


def read_answer_header(region: Region, slot: int) -> AnswerHeader:
    """The header of an answer that was handed over."""
    return AnswerHeader(*_ANSWER.unpack_from(region.memory, region.headers_at(slot) + _ANSWER_AT))


def read_scores(region: Region, slot: int, header: AnswerHeader, names: Sequence[str]) -> dict[str, Array]:
    """The scores, copied: the slot is about to be used again.

    Raises:
        ProtocolError: the bytes describe no arrays of this slot.
    """
    return {name: array.copy() for name, array in _read_arrays(region, slot, header.length, names).items()}


def read_reason(region: Region, slot: int, header: AnswerHeader) -> str:
    """The text of an answer without scores."""
    at = region.payload_at(slot)
    return region.memory[at : at + min(header.length, _LARGEST_TEXT)].decode(errors="replace")


def _write_answer_header(region: Region, slot: int, header: AnswerHeader, code: int, length: int) -> None:
    _ANSWER.pack_into(
        region.memory,
        region.headers_at(slot) + _ANSWER_AT,
        header.sequence,
        header.queue_s,
        header.run_s,
        code,
        length,
        header.batch_requests,
        header.batch_rows,
    )


def _write_arrays(region: Region, slot: int, arrays: Mapping[int, Array]) -> None:
    base = region.payload_at(slot)
    offset = _aligned(len(arrays) * _ARRAY.size)
    for place, (name, array) in enumerate(arrays.items()):
        code = _CODES.get(array.dtype)
        if code is None or not 1 <= array.ndim <= 2:
            raise SlotTooSmallError(f"a slot holds int32 and float32 of one or two axes, not {array.dtype} {array.shape}")
        nbytes = math.prod(array.shape) * _ITEM_BYTES  # rows that are gathered late know their shape only
        if offset + nbytes > region.shape.slot_bytes:
            raise SlotTooSmallError(f"a slot holds {region.shape.slot_bytes} bytes, and these arrays need more")
        _ARRAY.pack_into(
            region.memory,
            base + place * _ARRAY.size,
            name,
            code,
            array.ndim,
            len(array),
            array.shape[1] if array.ndim == 2 else 0,
            offset,
        )
        np.ndarray(array.shape, array.dtype, region.memory, base + offset)[...] = array
        offset = _aligned(offset + nbytes)


def _read_arrays(region: Region, slot: int, count: int, names: Sequence[str]) -> dict[str, Array]:
    base, room = region.payload_at(slot), region.shape.slot_bytes
    if count > len(names):
        raise ProtocolError("more arrays than the model has")
    arrays: dict[str, Array] = {}
    for place in range(count):
        name, code, axes, length, width, offset = _ARRAY.unpack_from(region.memory, base + place * _ARRAY.size)
        shape = (length, width) if axes == 2 else (length,)
        items = length * width if axes == 2 else length
        if name >= len(names) or code >= len(_DTYPES) or axes not in (1, 2) or offset % _ITEM_BYTES:
            raise ProtocolError("no such array")
        if offset + items * _ITEM_BYTES > room:
            raise ProtocolError("an array outside its slot")
        arrays[names[name]] = np.ndarray(shape, _DTYPES[code], region.memory, base + offset)
    return arrays


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN
