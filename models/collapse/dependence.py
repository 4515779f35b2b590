"""What a value depends on: the colouring that decides where it is computed.

The inputs' names carry the meaning (``models/zoo/inputs.py``): ``item_*`` is the item alone, ``candidate_*`` is the pair of
this request, everything on the users axis is the user. A wrong colour makes a wrong graph, which ``parity.py`` must refuse.
"""

from __future__ import annotations

from enum import Enum

from models.collapse.graph_ir import Axis, NotUnderstoodError, Source, Value
from models.manifest import GraphInput

ROW_USER = "row_user"
_ITEM_PREFIX, _CANDIDATE_PREFIX = "item_", "candidate_"


class Kind(Enum):
    """Where a value is computed."""

    CONSTANT = "constant"
    USER = "user"
    """Once per user."""
    ITEM = "item"
    """Once per item, ahead of time."""
    LIVE = "live"
    """For each row of each request."""


def source_of(graph_input: GraphInput) -> Source:
    """The colour of an input.

    Raises:
        NotUnderstoodError: a rows-axis input of another kind.
    """
    if graph_input.axis == "users":
        return Source.USER
    if graph_input.name.startswith(_ITEM_PREFIX):
        return Source.ITEM
    if graph_input.name.startswith(_CANDIDATE_PREFIX):
        return Source.CANDIDATE
    raise NotUnderstoodError(f"input {graph_input.name!r} of the rows axis is neither item_* nor candidate_*")


def kind_of(value: Value) -> Kind:
    """Where ``value`` is computed: an operation of unknown workings keeps a row's value live whatever it reads."""
    if value.axis is None:
        return Kind.CONSTANT
    if value.axis is Axis.USERS or value.sources == {Source.USER}:
        return Kind.USER
    return Kind.ITEM if value.sources == {Source.ITEM} else Kind.LIVE


def is_live(value: Value) -> bool:
    """Whether ``value`` must be computed for each row of each request."""
    return kind_of(value) is Kind.LIVE
