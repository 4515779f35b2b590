"""Request bodies, drawn from a seed and written before the run, so that in the run they cost the generator only sending."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.errors import IdsUnreadableError, OptionRefusedError
from loadtest.ids import Ids
from loadtest.options import PayloadRecipe

MAX_PAYLOAD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PayloadFacts:
    """Which bodies were written. Equal digests mean equal bodies."""

    sha256: str
    size_bytes: int
    known_users: int
    known_items: int
    distinct_users: int
    candidates_mean: float


@dataclass(frozen=True, slots=True)
class Payloads:
    """Bodies in a file, one a line, sent in turn: arrival ``n`` sends line ``n`` modulo their number."""

    path: Path
    facts: PayloadFacts
    first_body: bytes
    candidate_counts: NDArray[np.int64]
    """[payloads]: candidates in each body."""


def write_payloads(path: Path, users: Ids, items: Ids, recipe: PayloadRecipe) -> Payloads:
    """Draw the bodies and write them to ``path``, one a line, ASCII.

    Raises:
        IdsUnreadableError: fewer items than candidates.
        OptionRefusedError: more than 64 MiB of bodies.
    """
    requests = list(draw_requests(users, items, recipe))
    lines = [json.dumps(request, separators=(",", ":"), allow_nan=False).encode() for request in requests]
    content = b"\n".join(lines) + b"\n"
    if len(content) > MAX_PAYLOAD_BYTES:
        raise OptionRefusedError(
            f"{len(lines)} payloads are {len(content) >> 20} MiB, the limit is {MAX_PAYLOAD_BYTES >> 20} MiB:"
            " lower --payloads or --candidates"
        )
    path.write_bytes(content)
    sizes = np.array([len(request["candidates"]) for request in requests], dtype=np.int64)
    facts = PayloadFacts(
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        known_users=len(users),
        known_items=len(items),
        distinct_users=len({request["user_id"] for request in requests}),
        candidates_mean=float(sizes.mean()),
    )
    return Payloads(path, facts, lines[0], sizes)


def draw_requests(users: Ids, items: Ids, recipe: PayloadRecipe) -> Iterator[dict[str, Any]]:
    """The requests of a recipe, in order.

    Users are drawn with replacement by Zipf's law (rank r has weight ``r ** -user_skew``, ranks shuffled; skew 0 is uniform).
    Candidates are drawn uniformly without replacement, and each is replaced by an unknown id with the asked probability.

    Raises:
        IdsUnreadableError: fewer items than candidates.
    """
    if len(items) < recipe.candidates_max:
        raise IdsUnreadableError(
            f"the items table has {len(items)} distinct ids, up to {recipe.candidates_max} candidates are asked per request:"
            " lower --candidates or --candidates-max"
        )
    rng = np.random.default_rng(recipe.seed)
    chosen_users = _draw_users(rng, len(users), recipe)
    new_user, new_item = unknown_ids(users), unknown_ids(items)
    for user in chosen_users:
        user_id = next(new_user) if rng.random() < recipe.unknown_users else users[user]
        size = int(rng.integers(recipe.candidates_min, recipe.candidates_max, endpoint=True))
        drawn = rng.choice(len(items), size=size, replace=False)
        unknown = rng.random(size) < recipe.unknown_items
        candidates = [next(new_item) if missing else items[item] for item, missing in zip(drawn, unknown, strict=True)]
        request: dict[str, Any] = {**recipe.extra_fields, "user_id": user_id, "candidates": candidates}
        if recipe.top_k is not None:
            request["top_k"] = recipe.top_k
        yield request


def unknown_ids(known: Ids) -> Iterator[int | str]:
    """Ids of the same type that are not among the known ones, never the same twice."""
    taken = frozenset(known)
    candidates: Iterator[int | str]
    if isinstance(known[0], int):
        largest = max(int(known_id) for known_id in known)
        candidates = count(largest + 1 if largest < 2**62 else 1)
    else:
        candidates = (f"unknown-{number}" for number in count())
    return (new for new in candidates if new not in taken)


def _draw_users(rng: np.random.Generator, users: int, recipe: PayloadRecipe) -> NDArray[np.int64]:
    weights = np.arange(1, users + 1, dtype=np.float64) ** -recipe.user_skew
    by_rank = rng.permutation(users)
    ranks = rng.choice(users, size=recipe.count, p=weights / weights.sum())
    return by_rank[ranks]
