"""Request bodies, made before any load: ids from the world's own, drawn with a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Bodies:
    """How ``count`` bodies are drawn: a user, ``candidates`` different items, and ``fields`` as they are."""

    ids: str
    candidates: int
    count: int = 512
    top_k: int | None = 20
    timeout_ms: int | None = None
    fields: str = "{}"
    seed: int = 1

    def requests(self) -> list[bytes]:
        """Whole HTTP/1.1 requests."""
        ids, draw = _ids(self.ids), np.random.default_rng(self.seed)
        fields = {**json.loads(self.fields), "top_k": self.top_k, "timeout_ms": self.timeout_ms}
        rest = {name: value for name, value in fields.items() if value is not None}
        requests = []
        for _ in range(self.count):
            user = ids["users"][int(draw.integers(len(ids["users"])))]
            places = draw.choice(len(ids["items"]), self.candidates, replace=False)
            body = {"user_id": user, "candidates": [ids["items"][place] for place in places.tolist()], **rest}
            requests.append(_request(json.dumps(body, separators=(",", ":")).encode()))
        return requests


def bodies_of(given: dict[str, Any]) -> Bodies:
    """A recipe from JSON."""
    return Bodies(**given)


@cache
def _ids(path: str) -> dict[str, list[Any]]:
    ids: dict[str, list[Any]] = json.loads(Path(path).read_text())
    return ids


def _request(body: bytes) -> bytes:
    head = f"POST /rank HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
