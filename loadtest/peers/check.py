"""A peer must give the scores that the service gives: else it is not the same work that is compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from loadtest.peers.start import PeerFailedError, answer_items, ask

TOLERANCE = 1e-5


def check_scores(ours: int, theirs: int, world: Path, *, requests: int = 20, candidates: int = 200) -> float:
    """Ask both ports the same; the largest difference of a score.

    Raises:
        PeerFailedError: a score differs by more than 1e-5, or other items are ranked.
    """
    ids, draw = json.loads((world / "ids.json").read_text()), np.random.default_rng(7)
    largest = 0.0
    for _ in range(requests):
        user = ids["users"][int(draw.integers(len(ids["users"])))]
        places = draw.choice(len(ids["items"]), candidates, replace=False)
        asked = {"user_id": user, "candidates": [ids["items"][place] for place in places.tolist()], "top_k": candidates}
        body = json.dumps({**asked, "context": {"hour": "hour-12", "device": "device-0"}}).encode()
        largest = max(largest, difference(answer_items(ask(ours, body)), answer_items(ask(theirs, body))))
    if largest > TOLERANCE:
        raise PeerFailedError(f"scores differ by {largest:.2g}, more than {TOLERANCE:g}")
    return largest


def difference(ours: dict[int, float], theirs: dict[int, float]) -> float:
    """The largest difference of an item's scores; infinite where other items are ranked."""
    if ours.keys() != theirs.keys():
        return float("inf")
    return max((abs(score - theirs[item]) for item, score in ours.items()), default=0.0)
