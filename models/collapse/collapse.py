"""A request-shaped graph without repeated work: the user's part once per user, the item's part once per item.

No term is left out and none is approximated, but terms are added and scaled in another order, so that float32 rounds otherwise.
A graph whose answer hangs on that order, such as ``(h + 1e8 x) - 1e8 x``, comes out different: ``parity.py`` refuses it.

The graph is read into values (``reading.py``), which the rewritings take apart by what they depend on, and written anew as a
graph of the item alone and two forms of the rest (``forms.py``). MaRI (arXiv 2602.23105) splits products in this way; here
the cut between item and pair makes a table of the item's half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from models.collapse.columns import ItemColumns
from models.collapse.cost import cost_of, with_row_read
from models.collapse.forms import Form, FormWriter
from models.collapse.graph_ir import NotUnderstoodError
from models.collapse.reading import ReadGraph, read_graph
from models.manifest import ITEM_PART, Cost, GraphInput

_GAIN = 0.95
_ROWS_OF_A_RUN = (50, 200)
"""A tile of a request, and a request: what is done once per user must pay for both."""
# One core makes about eight operations while it moves one byte.
_OPERATIONS_PER_BYTE = 8.0


@dataclass(frozen=True, slots=True)
class CollapsedGraphs:
    """The graphs of a collapsed version; every output is called as in the plain graph."""

    item: onnx.ModelProto | None
    """``item_*`` inputs to ``item_part`` [rows, item_width]; None when nothing depends on the item alone."""
    item_width: int
    one_user: onnx.ModelProto
    many_users: onnx.ModelProto
    plain_cost: Cost
    collapsed_cost: Cost
    """Of ``one_user``, with the reading of an item's row but not the making of it."""


def collapse(plain: onnx.ModelProto, inputs: Sequence[GraphInput], *, max_item_width: int = 4096) -> CollapsedGraphs | None:
    """The plain graph's forms without repeated work, or None when nothing is gained or the graph is not understood.

    ``inputs`` says which axis each input has. A row of the item part is at most ``max_item_width`` numbers wide: beyond that
    the forms compute more of the item's half themselves.

    Raises:
        onnx.checker.ValidationError: a graph that was written is not valid.
    """
    try:
        read = read_graph(plain, inputs)
        columns, one_user, many_users = _forms(read, plain, max_item_width)
        item = FormWriter(Form.ITEM, read, columns, plain).item_part() if columns.width else None
    except (NotUnderstoodError, onnx.shape_inference.InferenceError):
        return None
    graphs = CollapsedGraphs(
        item=item,
        item_width=columns.width,
        one_user=one_user,
        many_users=many_users,
        plain_cost=cost_of(plain),
        collapsed_cost=with_row_read(cost_of(one_user), columns.width),
    )
    return graphs if _pays(graphs.collapsed_cost, graphs.plain_cost) else None


def form_inputs(model: onnx.ModelProto, inputs: Sequence[GraphInput], item_width: int) -> tuple[GraphInput, ...]:
    """What the manifest says of the inputs of one of the collapsed graphs, in the graph's order."""
    known = {each.name: each for each in inputs}
    if item_width:
        known[ITEM_PART] = GraphInput(name=ITEM_PART, dtype="float32", axis="rows", width=item_width)
    return tuple(known[each.name] for each in model.graph.input)


def _forms(
    read: ReadGraph, plain: onnx.ModelProto, max_item_width: int
) -> tuple[ItemColumns, onnx.ModelProto, onnx.ModelProto]:
    """Both forms over the same columns, which are widened by what either asks for and then known to both."""
    columns = ItemColumns()
    while True:
        for form in (Form.ONE_USER, Form.MANY_USERS):
            FormWriter(form, read, columns, plain).outputs()
        if columns.width <= max_item_width:
            break
        columns = columns.without_widest()
    one_user, many_users = (FormWriter(form, read, columns, plain).outputs() for form in (Form.ONE_USER, Form.MANY_USERS))
    return columns, one_user, many_users


def _pays(collapsed: Cost, plain: Cost) -> bool:
    """Whether the form for one user is cheaper; that for many, which repeats less of the user's work too, comes with it."""
    return all(_work(collapsed, rows) < _GAIN * _work(plain, rows) for rows in _ROWS_OF_A_RUN)


def _work(cost: Cost, rows: int) -> float:
    """What a run of one user and so many candidates takes, in operations."""
    flops = cost.flops_per_user + rows * cost.flops_per_row
    return flops + _OPERATIONS_PER_BYTE * (cost.bytes_per_user + rows * cost.bytes_per_row)
