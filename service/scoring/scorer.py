"""What runs: one graph over a batch of requests. Each request is scored whole or fails alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.manifest import ITEM_PART, GraphInput, Manifest
from service.scoring.batch import ATTENTION, Array, Scores, ScoringRequest, check_request, merge, split
from service.scoring.errors import ScoringFailedError


class Graph(Protocol):
    """What the scorer needs of an engine."""

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The named outputs for these feeds."""


@dataclass(frozen=True, slots=True)
class Form:
    """A graph and what it reads."""

    graph: Graph
    inputs: tuple[GraphInput, ...]


@dataclass(frozen=True, slots=True)
class Forms:
    """The graphs of one version, all of the same outputs; the collapsed ones do the same in less.

    ``takes_item_part``: whether a request must bring ``item_part`` for the collapsed forms; else they take every request.
    """

    plain: Form
    one_user: Form | None = None
    many_users: Form | None = None
    takes_item_part: bool = False

    def collapses(self, request: ScoringRequest) -> bool:
        """Whether the collapsed forms can score the request."""
        return self.one_user is not None and (not self.takes_item_part or ITEM_PART in request.inputs)

    def check(self, request: ScoringRequest) -> None:
        """Check that a request fits the form that will score it.

        Raises:
            ScoringFailedError: as ``check_request``.
        """
        form = self.one_user if self.collapses(request) else self.plain
        assert form is not None
        check_request(request, form.inputs)


class Scorer:
    """Scores batches of requests that passed their checks; keeps nothing between calls."""

    def __init__(self, forms: Forms, manifest: Manifest) -> None:
        self._forms = forms
        self._score_names = manifest.score_names
        self._attention = tuple(each.name for each in manifest.outputs if each.name == ATTENTION)

    def __call__(self, requests: Sequence[ScoringRequest]) -> list[Scores | ScoringFailedError]:
        """One run, or two where some requests can be scored by the plain graph alone.

        Attention is computed into the answer only when some request wants it. Raises whatever the graph raises: then no
        request of the batch has scores.
        """
        forms = self._forms
        collapsed = [forms.collapses(request) for request in requests]
        if all(collapsed):
            form = forms.one_user if len(requests) == 1 else forms.many_users
            return self._run(form or forms.plain, requests)
        if not any(collapsed):
            return self._run(forms.plain, requests)
        outcomes: dict[int, Scores | ScoringFailedError] = {}
        for kind in (True, False):
            places = [place for place, each in enumerate(collapsed) if each is kind]
            outcomes.update(zip(places, self([requests[place] for place in places]), strict=True))
        return [outcomes[place] for place in range(len(requests))]

    def _run(self, form: Form, requests: Sequence[ScoringRequest]) -> list[Scores | ScoringFailedError]:
        wanted = self._score_names
        if any(request.want_attention for request in requests):
            wanted += self._attention
        outputs = form.graph.run(wanted, merge(requests, form.inputs))
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
