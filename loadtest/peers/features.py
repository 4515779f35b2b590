"""What every peer does with a request, whatever serves it: read the ids, take features, run the graph, write the best.

As lean as a user of those servers could make it: the items' encoded features are a table in memory, the users' come from Redis
in one exchange for all requests of a batch, and a batch is one run of the graph. Imports only what every ``requirements-*.txt``
has.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

MODEL, ITEMS, STORE, BATCH, WAIT_MS = "PEER_MODEL", "PEER_ITEMS", "PEER_STORE", "PEER_BATCH", "PEER_WAIT_MS"
_MISSING, _UNKNOWN, _FIRST_KNOWN = 0, 1, 2
_SEAL_BYTES = 8
_FIRST_NO_ASCII = 0x80


class Asked(msgspec.Struct):
    """The fields of a request's body that a peer needs."""

    user_id: int
    candidates: list[int]
    top_k: int = 20
    context: dict[str, str] = {}


class _Features(msgspec.Struct, array_like=True):
    """A user's record in the store; a checksum behind these is passed over."""

    schema: int
    owner: str
    event_time: float
    written_at: float
    values: dict[str, Any]


class _History(msgspec.Struct, array_like=True):
    schema: int
    owner: str
    version: int
    written_at: float
    items: list[str]


Answer = dict[str, Any]
_read_asked = msgspec.json.Decoder(Asked).decode
_write_answer = msgspec.json.Encoder().encode
_read_features = msgspec.msgpack.Decoder(_Features).decode
_read_history = msgspec.msgpack.Decoder(_History).decode


# Functions, since Ray pickles what an app's module names, and decoders cannot be.
def read_asked(body: bytes) -> Asked:
    """A request's body."""
    return _read_asked(body)


def write_answer(answer: Answer) -> bytes:
    """An answer's body."""
    return _write_answer(answer)


class Ranking:
    """A version's plain graph and the tables around it."""

    def __init__(self, version: Path, items: Path, prefix: str = "rankline") -> None:
        self._prefix = prefix
        encoder = json.loads((version / "encoder.json").read_text())
        self._user, self._context = (Vocabularies(encoder["views"][view]) for view in ("user", "context"))
        self._item_ids = Vocabularies(encoder["views"]["item"]).ids[encoder["item_key"]]
        self._history_length: int = encoder["history_length"]
        with np.load(items) as table:
            self._items = table["item_categories"]
            self._row_of = dict(zip(table["ids"].tolist(), range(1, len(self._items)), strict=True))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(version / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self._inputs = {each.name for each in self._session.get_inputs()}
        self._score = self._session.get_outputs()[0].name

    @classmethod
    def of_environment(cls) -> Ranking:
        """What ``running_peer`` named."""
        return cls(Path(os.environ[MODEL]), Path(os.environ[ITEMS]))

    def keys(self, batch: Sequence[Asked]) -> list[str]:
        """Where the users' features and histories are: two keys for each."""
        prefix = self._prefix
        return [f"{prefix}:{what}:{{{asked.user_id}}}" for asked in batch for what in ("user", "history")]

    def rank(self, batch: Sequence[Asked], values: Sequence[Any]) -> list[Answer]:
        """The answers of a batch; ``values``: what the store has for ``keys``."""
        counts = [len(asked.candidates) for asked in batch]
        rows = np.fromiter(
            map(self._row_of.get, chain.from_iterable(asked.candidates for asked in batch), repeat(0)), np.intp, sum(counts)
        )
        feeds = {
            "user_categories": np.array([self._user.encode(_features(value)) for value in values[::2]], np.int32),
            "context_categories": np.array([self._context.encode(asked.context) for asked in batch], np.int32),
            "item_categories": self._items.take(rows, axis=0),
            "row_user": np.repeat(np.arange(len(batch), dtype=np.int32), counts),
        }
        if "history" in self._inputs:
            feeds["history"] = self._histories(values[1::2])
        (scores,) = self._session.run([self._score], feeds)
        ends = np.cumsum(counts)[:-1]
        return [_answer(asked, part) for asked, part in zip(batch, np.split(scores, ends), strict=True)]

    def _histories(self, values: Sequence[Any]) -> np.ndarray:
        """The newest of each, oldest first, padded behind."""
        out = np.zeros((len(values), self._history_length), np.int32)
        for row, value in enumerate(values):
            if value is not None:
                items = _read_history(value if value[0] >= _FIRST_NO_ASCII else value[_SEAL_BYTES:]).items
                newest = items[-self._history_length :]
                out[row, : len(newest)] = [self._item_ids.get(item, _UNKNOWN) for item in newest]
        return out


class Vocabularies:
    """The ids of a view's category fields."""

    def __init__(self, view: Mapping[str, Any]) -> None:
        self.ids: dict[str, dict[str, int]] = {
            column["name"]: {term: place for place, term in enumerate(column["ids"]["terms"], _FIRST_KNOWN)}
            for column in view["categories"]
        }

    def encode(self, values: Mapping[str, Any]) -> list[int]:
        """One row: 0 is missing, 1 unknown."""
        return [_id(ids, values.get(name)) for name, ids in self.ids.items()]


def _id(ids: Mapping[str, int], value: Any) -> int:
    return _MISSING if value is None or value == "" else ids.get(str(value), _UNKNOWN)


def _features(value: bytes | None) -> Mapping[str, Any]:
    return {} if value is None else _read_features(value).values


def _answer(asked: Asked, scores: np.ndarray) -> Answer:
    best = np.argsort(-scores, kind="stable")[: asked.top_k]
    items = [
        {"id": asked.candidates[place], "score": score}
        for place, score in zip(best.tolist(), scores[best].tolist(), strict=True)
    ]
    return {"user_id": asked.user_id, "items": items, "degraded": None}


def setting(name: str, default: int) -> int:
    """A number that a run may set, to look for a server's best configuration."""
    return int(os.environ.get(name, default))
