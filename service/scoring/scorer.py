"""What runs: one graph over a batch of requests. Each request is scored whole or fails alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from feature_store.item_table import SharedRows
from models.manifest import ITEM_PART, GraphInput, Manifest
from service.scoring.batch import ATTENTION, ROW_USER, Array, Scores, ScoringRequest, check_request, merge, split
from service.scoring.errors import ScoringFailedError


class Graph(Protocol):
    """What the scorer needs of an engine."""

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The named outputs for these feeds."""


_ITEM_INPUTS = ("item_categories", "item_numbers")
_Wanted = tuple[str, np.dtype[Any], tuple[int, ...] | None, int | None]
"""An input's name and type, its whole shape if it is the user's, else its width."""


@dataclass(frozen=True, slots=True)
class Form:
    """A graph and what it reads."""

    graph: Graph
    inputs: tuple[GraphInput, ...]
    _wanted: tuple[_Wanted, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_wanted", tuple(_wanted(each) for each in self.inputs if each.name != ROW_USER))

    def check(self, request: ScoringRequest) -> None:
        """``check_request`` for this graph, in a pass that a request which fits costs little.

        Raises:
            ScoringFailedError: as ``check_request``.
        """
        inputs, rows = request.inputs, request.rows
        for name, dtype, shape, width in self._wanted:
            array = inputs.get(name)
            if array is None or array.dtype != dtype or array.shape != (shape or ((rows,) if width is None else (rows, width))):
                break
        else:
            if rows >= 1:
                return
        check_request(request, self.inputs)

    def feeds(self, requests: Sequence[ScoringRequest]) -> Mapping[str, Array]:
        """As ``merge``. The inputs of one request that has no others than the graph are its feeds."""
        if len(requests) > 1 or len(self._wanted) < len(self.inputs) or len(requests[0].inputs) > len(self.inputs):
            return merge(requests, self.inputs)
        inputs = requests[0].inputs
        part = inputs.get(ITEM_PART)
        return {**inputs, ITEM_PART: part.gather()} if isinstance(part, SharedRows) else inputs


def _wanted(value: GraphInput) -> _Wanted:
    width = () if value.width is None else (value.width,)
    return value.name, np.dtype(value.dtype), (1, *width) if value.axis == "users" else None, value.width


@dataclass(frozen=True, slots=True)
class Forms:
    """The graphs of one version, all of the same outputs; the collapsed ones do the same in less.

    ``takes_item_part``: whether a request must bring ``item_part`` for the collapsed forms; else they take every request.
    """

    plain: Form
    one_user: Form | None = None
    many_users: Form | None = None
    takes_item_part: bool = False

    @property
    def reads_items_beside_part(self) -> bool:
        """Whether a collapsed form takes item inputs and ``item_part``, too: a request must then bring both."""
        forms = [form for form in (self.one_user, self.many_users) if form is not None and self.takes_item_part]
        return any(each.name in _ITEM_INPUTS for form in forms for each in form.inputs)

    def collapses(self, request: ScoringRequest) -> bool:
        """Whether the collapsed forms can score the request."""
        return self.one_user is not None and (not self.takes_item_part or ITEM_PART in request.inputs)

    def check(self, request: ScoringRequest) -> None:
        """Check that a request fits the form that will score it.

        Raises:
            ScoringFailedError: as ``check_request``.
        """
        form = self.one_user
        if form is None or not self.collapses(request):
            form = self.plain
        form.check(request)


class Scorer:
    """Scores batches of requests that passed their checks; keeps nothing between calls."""

    def __init__(self, forms: Forms, manifest: Manifest) -> None:
        self._forms = forms
        self._score_names = list(manifest.score_names)
        self._all_names = self._score_names + [each.name for each in manifest.outputs if each.name == ATTENTION]

    def __call__(self, requests: Sequence[ScoringRequest]) -> list[Scores | ScoringFailedError]:
        """One run, or two where some requests can be scored by the plain graph alone.

        Attention is computed into the answer only when some request wants it. Raises whatever the graph raises: then no
        request of the batch has scores.
        """
        forms = self._forms
        if len(requests) == 1:
            form = forms.one_user if forms.collapses(requests[0]) else forms.plain
            return self._run(form or forms.plain, requests)
        collapsed = [forms.collapses(request) for request in requests]
        if all(collapsed):
            return self._run(forms.many_users or forms.plain, requests)
        if not any(collapsed):
            return self._run(forms.plain, requests)
        outcomes: dict[int, Scores | ScoringFailedError] = {}
        for kind in (True, False):
            places = [place for place, each in enumerate(collapsed) if each is kind]
            outcomes.update(zip(places, self([requests[place] for place in places]), strict=True))
        return [outcomes[place] for place in range(len(requests))]

    def _run(self, form: Form, requests: Sequence[ScoringRequest]) -> list[Scores | ScoringFailedError]:
        wanted = self._score_names
        for request in requests:
            if request.want_attention:
                wanted = self._all_names
        outputs = form.graph.run(wanted, form.feeds(requests))
        scores = split(outputs, requests)
        for array in outputs.values():
            if np.count_nonzero(np.isfinite(array)) < array.size:  # a third of what all() takes for so few
                return [_finite(each) for each in scores]
        return list(scores)


def _finite(scores: Scores) -> Scores | ScoringFailedError:
    """The scores, or the error of a request that has NaN or infinity among them: such a row has no place in an order."""
    for name, array in scores.values.items():
        finite = np.isfinite(array)
        if not finite.all():
            return ScoringFailedError(f"output {name}: {np.sum(~finite)} of {finite.size} values are not finite")
    return scores
