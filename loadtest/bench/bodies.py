"""Request bodies, made before any load: ids from the world's own, drawn with a seed."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_BINARY = "application/vnd.rankline.rank.v1"


@dataclass(frozen=True, slots=True)
class Bodies:
    """How ``count`` bodies are drawn: a user, ``candidates`` different items, and ``fields`` as they are.

    ``binary``: the body of ``docs/binary-body.md`` instead of JSON, asking for an answer of its kind; ids are integers.
    """

    ids: str
    candidates: int
    count: int = 512
    top_k: int | None = 20
    timeout_ms: int | None = None
    fields: str = "{}"
    seed: int = 1
    binary: bool = False

    def requests(self) -> list[bytes]:
        """Whole HTTP/1.1 requests."""
        ids, draw = _ids(self.ids), np.random.default_rng(self.seed)
        fields = {**json.loads(self.fields), "top_k": self.top_k, "timeout_ms": self.timeout_ms}
        rest = {name: value for name, value in fields.items() if value is not None}
        requests = []
        for _ in range(self.count):
            user = ids["users"][int(draw.integers(len(ids["users"])))]
            places = draw.choice(len(ids["items"]), self.candidates, replace=False)
            candidates = [ids["items"][place] for place in places.tolist()]
            if self.binary:
                requests.append(_request(_binary(user, candidates, rest), _BINARY))
            else:
                body = {"user_id": user, "candidates": candidates, **rest}
                requests.append(_request(json.dumps(body, separators=(",", ":")).encode(), "application/json"))
        return requests


def bodies_of(given: dict[str, Any]) -> Bodies:
    """A recipe from JSON."""
    return Bodies(**given)


@cache
def _ids(path: str) -> dict[str, list[Any]]:
    ids: dict[str, list[Any]] = json.loads(Path(path).read_text())
    return ids


def _binary(user: int, candidates: list[int], rest: dict[str, Any]) -> bytes:
    options = json.dumps(rest).encode()
    head = struct.pack("<4sHHIIIIq", b"RKRQ", 1, 0, len(candidates), 0, 0, len(options), user)
    return head + np.asarray(candidates, "<i8").tobytes() + options


def _request(body: bytes, media: str) -> bytes:
    accept = f"Accept: {media}\r\n" if media == _BINARY else ""
    head = f"POST /rank HTTP/1.1\r\nHost: bench\r\nContent-Type: {media}\r\n{accept}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
