"""What runs: one graph over a batch of requests. Each request is scored whole or fails alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from models.manifest import Manifest
from service.scoring.batch import ATTENTION, Array, Scores, ScoringRequest, merge, split
from service.scoring.errors import ScoringFailedError


class Graph(Protocol):
    """What the scorer needs of an engine."""

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The named outputs for these feeds."""


class Scorer:
    """Scores batches of requests that passed their checks; called on a scoring thread, keeps nothing between calls."""

    def __init__(self, graph: Graph, manifest: Manifest) -> None:
        self._graph = graph
        self._inputs = manifest.inputs
        self._score_names = manifest.score_names
        self._attention = tuple(each.name for each in manifest.outputs if each.name == ATTENTION)

    def __call__(self, requests: Sequence[ScoringRequest]) -> list[Scores | ScoringFailedError]:
        """One run; attention is computed into the answer only when some request wants it.

        Raises whatever the graph raises: then no request of the batch has scores.
        """
        wanted = self._score_names
        if any(request.want_attention for request in requests):
            wanted += self._attention
        outputs = self._graph.run(wanted, merge(requests, self._inputs))
        scores = split(outputs, requests)
        if all(np.isfinite(array).all() for array in outputs.values()):
            return list(scores)
        return [_finite(each) for each in scores]


def _finite(scores: Scores) -> Scores | ScoringFailedError:
    """The scores, or the error of a request that has NaN or infinity among them: such a row has no place in an order."""
    for name, array in scores.values.items():
        finite = np.isfinite(array)
        if not finite.all():
            return ScoringFailedError(f"output {name}: {np.sum(~finite)} of {finite.size} values are not finite")
    return scores
