"""The columnar body of ``POST /rank``, version 1: arrays of ids in, of places and scores out (docs/binary-body.md)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np

from feature_store.integer_ids import IntegerIds
from service.api.body import parse_body
from service.api.rank_call import RankCall, query_of
from service.api.rank_decoder import decode_options
from service.api.rank_encoder import encode_rest
from service.api.schemas import RankRequest
from service.api.wire_ids import printable_ids
from service.errors import BodyUnreadableError, FieldProblem, RequestInvalidError
from service.ranking.query import Answer
from service.ranking.stages import StageClock
from service.settings import RequestLimits

VERSION = 1
REQUEST_MAGIC = b"RKRQ"
ANSWER_MAGIC = b"RKAN"
TEXT_USER = 1
TEXT_CANDIDATES = 2
SCORED = 1
REQUEST_HEADER = struct.Struct("<4sHHIIIIq")
"""magic, version, flags, candidates, bytes of their text, bytes of the user's text, bytes of JSON, user as an integer"""
ANSWER_HEADER = struct.Struct("<4sHHIIII")
"""magic, version, flags, items, named scores, bytes of JSON, 0"""


@dataclass(frozen=True, slots=True)
class _Columns:
    """The parts of a body. ``candidates`` are canonical texts; ``options`` JSON, still unread."""

    user_id: int | str
    candidates: Sequence[str]
    are_texts: bool
    options: bytes


def decode_binary_call(body: bytes, limits: RequestLimits, arrived: float) -> RankCall:
    """The call of a binary body.

    Raises:
        BodyUnreadableError: not of this format and version, or its lengths do not add up.
        RequestInvalidError: an id, the number of candidates, or an option is wrong.
    """
    columns = _columns(body, limits.max_candidates)
    user, candidates = str(columns.user_id), columns.candidates
    query = decode_options(columns.options, user, candidates, limits, arrived)
    if query is None:
        query = query_of(_checked_options(columns.options), user, candidates, limits, arrived)
    return RankCall(query, columns.user_id, candidates if columns.are_texts else None)


def _columns(body: bytes, max_candidates: int) -> _Columns:
    if len(body) < REQUEST_HEADER.size:
        raise BodyUnreadableError(f"a binary body starts with a header of {REQUEST_HEADER.size} bytes")
    magic, version, flags, count, text_bytes, user_bytes, json_bytes, user = REQUEST_HEADER.unpack_from(body)
    if magic != REQUEST_MAGIC or version != VERSION or flags & ~(TEXT_USER | TEXT_CANDIDATES):
        raise BodyUnreadableError(f"not a binary body of version {VERSION}, or with flags that it does not have")
    if not 1 <= count <= max_candidates:
        raise RequestInvalidError([FieldProblem("candidates", f"1 to {max_candidates} are ranked at once")])
    are_texts = bool(flags & TEXT_CANDIDATES)
    ids_end = REQUEST_HEADER.size + (4 * (count + 1) + text_bytes if are_texts else 8 * count)
    if ids_end + user_bytes + json_bytes != len(body) or (text_bytes and not are_texts):
        raise BodyUnreadableError("the lengths in the header do not add up to the body's")
    if bool(flags & TEXT_USER) != bool(user_bytes) or (user_bytes and user):
        raise BodyUnreadableError("the user's id is either an integer or text")
    user_id = _text_user(body[ids_end : ids_end + user_bytes]) if user_bytes else user
    candidates = _text_ids(body, count, ids_end) if are_texts else _integer_ids(body, count)
    return _Columns(user_id, candidates, are_texts, body[ids_end + user_bytes :])


def _integer_ids(body: bytes, count: int) -> IntegerIds:
    return IntegerIds(np.frombuffer(body, "<i8", count, REQUEST_HEADER.size).astype(np.int64, copy=False))


def _text_ids(body: bytes, count: int, end: int) -> tuple[str, ...]:
    """Texts between offsets: the first 0, none before the last, the last the text's length."""
    offsets = np.frombuffer(body, "<u4", count + 1, REQUEST_HEADER.size).tolist()
    text = body[REQUEST_HEADER.size + 4 * (count + 1) : end]
    bounds = list(pairwise(offsets))
    if offsets[0] != 0 or offsets[-1] != len(text) or any(start > stop for start, stop in bounds):
        raise BodyUnreadableError("the offsets of the candidates do not rise from 0 to the length of their text")
    try:
        return printable_ids([text[start:stop].decode("utf-8") for start, stop in bounds])
    except ValueError:
        raise RequestInvalidError([FieldProblem("candidates", _ID_RULE)]) from None


def _text_user(text: bytes) -> str:
    try:
        return printable_ids([text.decode("utf-8")])[0]
    except ValueError:
        raise RequestInvalidError([FieldProblem("user_id", _ID_RULE)]) from None


_ID_RULE = "an id is 1 to 256 bytes of UTF-8 without control or invisible characters"


def _checked_options(options: bytes) -> RankRequest:
    """What the fast decoder did not take, through the wire schema: with stand-ins for the user and the candidates."""
    try:
        fields = msgspec.json.decode(options, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise RequestInvalidError([FieldProblem("(body)", "the options are a JSON object")]) from None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BodyUnreadableError("the options are not valid JSON") from None
    misplaced = [name for name in ("user_id", "candidates", "overrides") if name in fields]
    if misplaced:
        raise RequestInvalidError([FieldProblem(name, "is no option of a binary body") for name in misplaced])
    return parse_body(RankRequest, b'{"user_id":0,"candidates":[0],' + msgspec.json.encode(fields)[1:])


def encode_binary_answer(call: RankCall, answer: Answer, clock: StageClock) -> bytes:
    """Header, places (int32), one float32 column per named score, then the rest of the answer as JSON."""
    scores = answer.scores or {}
    columns = [np.asarray(answer.order, "<i4").tobytes()]
    columns += [np.asarray(values, "<f4").tobytes() for values in scores.values()]
    clock.lap("respond")
    rest = encode_rest(call, answer, tuple(scores), clock)
    flags = 0 if answer.scores is None else SCORED
    header = ANSWER_HEADER.pack(ANSWER_MAGIC, VERSION, flags, len(answer.order), len(scores), len(rest), 0)
    return b"".join((header, *columns, rest))
