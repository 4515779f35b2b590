"""The collapsed forms of a version that is being published: graphs, item table, and their agreement with torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from models.agreement import TOLERANCE, Arrays, ParityError, open_session, run_graph
from models.collapse.collapse import CollapsedGraphs, collapse, form_inputs
from models.collapse.parity import CollapseError, FormSessions, check_forms
from models.graph import GraphShape
from models.manifest import ITEM_PART, Collapsed, GraphForm, GraphInput, ItemPart, Parity
from models.parity import arrays_of, parity_cases, torch_outputs
from models.training.catalogue import Catalogue
from models.training.run_directory import TrainedRun
from models.weight_files import save_graph

ITEM_FILE, ONE_USER_FILE, MANY_USERS_FILE = "item.onnx", "one_user.onnx", "many_users.onnx"
TABLE_FILE, TABLE_INPUTS_FILE = "item_part.npy", "item_inputs.npz"
MOST_TABLE_BYTES = 1 << 30
"""Of the item parts of the whole catalogue: with more items a row holds less, and the forms compute the rest."""
_WIDEST_ROW = 4096
_ROWS_AT_ONCE = 8_192


def write_collapsed(staged: Path, plain: Path, run: TrainedRun, shape: GraphShape) -> Collapsed | None:
    """Collapse the plain graph and write all that a collapsed version has beside it; None where nothing is gained.

    Raises:
        ParityError: a form reads what it is not given, or does not say what torch and the plain graph say.
    """
    inputs = declared_inputs(shape)
    try:
        graphs = collapse(onnx.load(plain), inputs, max_item_width=_row_width(run.catalogue))
        if graphs is None:
            return None
        forms = _written(staged, graphs)
        parity = _parity(forms, plain, run, shape)
    except ParityError as error:
        raise ParityError(f"{error}; export with --plain to publish without collapsed forms") from error
    return Collapsed(
        one_user=GraphForm(onnx=ONE_USER_FILE, inputs=form_inputs(graphs.one_user, inputs, graphs.item_width)),
        many_users=GraphForm(onnx=MANY_USERS_FILE, inputs=form_inputs(graphs.many_users, inputs, graphs.item_width)),
        item_part=_write_item_part(staged, graphs, forms.item, inputs, run.catalogue),
        parity=parity,
        plain_cost=graphs.plain_cost,
        collapsed_cost=graphs.collapsed_cost,
    )


def declared_inputs(shape: GraphShape) -> tuple[GraphInput, ...]:
    """The inputs of a graph as a manifest has them."""
    return tuple(GraphInput(name=t.name, dtype=t.dtype, axis=t.axis, width=t.width) for t in shape.inputs)


def _row_width(catalogue: Catalogue | None) -> int:
    """How many numbers of an item the table has room for; 0 where it has none for a single one."""
    if catalogue is None:
        return _WIDEST_ROW
    return min(_WIDEST_ROW, MOST_TABLE_BYTES // (_ids(catalogue) * np.dtype(np.float32).itemsize))


def _ids(catalogue: Catalogue) -> int:
    return len(next(iter(catalogue.values())))


def _written(staged: Path, graphs: CollapsedGraphs) -> FormSessions:
    """The files, opened again: what is measured is what is published."""
    for file, graph in ((ITEM_FILE, graphs.item), (ONE_USER_FILE, graphs.one_user), (MANY_USERS_FILE, graphs.many_users)):
        if graph is None:
            continue
        try:
            onnx.checker.check_model(graph, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise CollapseError(f"{file} is no valid graph: {error}") from error
        save_graph(graph, staged / file)
    item = None if graphs.item is None else staged / ITEM_FILE
    return FormSessions.open(item, staged / ONE_USER_FILE, staged / MANY_USERS_FILE)


def _parity(forms: FormSessions, plain: Path, run: TrainedRun, shape: GraphShape) -> Parity:
    """Largest difference of either form from torch, by case; the plain graph's answers are held to the same tolerance."""
    inputs = declared_inputs(shape)
    tensors = {"golden_rows": shape.select(run.golden), **dict(parity_cases(run.inputs, shape))}
    cases = {name: arrays_of(case) for name, case in tensors.items()}
    session = open_session(plain)
    check_forms(forms, inputs, cases, lambda case: run_graph(session, case))

    def by_torch(case: Mapping[str, np.ndarray]) -> Arrays:
        return torch_outputs(run.network, {name: torch.from_numpy(array) for name, array in case.items()})

    differences = check_forms(forms, inputs, cases, by_torch)
    return Parity(tolerance=TOLERANCE, largest=max(differences.values()), cases=differences)


def _write_item_part(
    staged: Path,
    graphs: CollapsedGraphs,
    session: onnxruntime.InferenceSession | None,
    inputs: Sequence[GraphInput],
    catalogue: Catalogue | None,
) -> ItemPart | None:
    if graphs.item is None or session is None:
        return None
    item_inputs = form_inputs(graphs.item, inputs, 0)
    if catalogue is not None:
        needed = {each.name: catalogue[each.name] for each in item_inputs}
        _write_table(staged / TABLE_FILE, session, needed, graphs.item_width)
        np.savez(staged / TABLE_INPUTS_FILE, allow_pickle=False, **needed)
    return ItemPart(
        onnx=ITEM_FILE,
        inputs=item_inputs,
        width=graphs.item_width,
        table=None if catalogue is None else TABLE_FILE,
        table_inputs=None if catalogue is None else TABLE_INPUTS_FILE,
    )


def _write_table(path: Path, session: onnxruntime.InferenceSession, catalogue: Catalogue, width: int) -> None:
    """The item parts [ids, width], written piece by piece: the table may be larger than what memory has left."""
    count = _ids(catalogue)
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, width))
    for first in range(0, count, _ROWS_AT_ONCE):
        cut = slice(first, first + _ROWS_AT_ONCE)
        table[cut] = run_graph(session, {name: rows[cut] for name, rows in catalogue.items()})[ITEM_PART]
    table.flush()
