"""The collapsed forms of a version that is being published: graphs, item table, and their parity with torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from models.collapse.collapse import CollapsedGraphs, collapse
from models.graph import GraphShape
from models.manifest import ITEM_PART, Collapsed, GraphForm, GraphInput, ItemPart, Parity
from models.parity import Arrays, held_to_tolerance, largest_difference, open_session, parity_cases, torch_outputs
from models.training.catalogue import Catalogue
from models.training.run_directory import TrainedRun
from models.weight_files import save_graph

ITEM_FILE, ONE_USER_FILE, MANY_USERS_FILE = "item.onnx", "one_user.onnx", "many_users.onnx"
TABLE_FILE, TABLE_INPUTS_FILE = "item_part.npy", "item_inputs.npz"
_ROWS_AT_ONCE = 8_192
_USERS_ALONE = 8
"""Of a case with many users so many are also scored one by one: each is a run of its own."""


def write_collapsed(staged: Path, plain: Path, run: TrainedRun, shape: GraphShape) -> Collapsed | None:
    """Collapse the plain graph and write all that a collapsed version has beside it; None where nothing is gained.

    Raises:
        ParityError: a form does not say what torch says.
    """
    inputs = graph_inputs(shape)
    graphs = collapse(onnx.load(plain), inputs)
    if graphs is None:
        return None
    for file, graph in ((ITEM_FILE, graphs.item), (ONE_USER_FILE, graphs.one_user), (MANY_USERS_FILE, graphs.many_users)):
        if graph is not None:
            onnx.checker.check_model(graph, full_check=True)
            save_graph(graph, staged / file)
    forms = _FormSessions.open(staged, graphs)
    parity = _parity(forms, run, shape)
    return Collapsed(
        one_user=GraphForm(onnx=ONE_USER_FILE, inputs=_inputs_of(graphs.one_user, graphs, inputs)),
        many_users=GraphForm(onnx=MANY_USERS_FILE, inputs=_inputs_of(graphs.many_users, graphs, inputs)),
        item_part=_write_item_part(staged, graphs, forms, inputs, run.catalogue),
        parity=parity,
        plain_cost=graphs.plain_cost,
        collapsed_cost=graphs.collapsed_cost,
    )


def graph_inputs(shape: GraphShape) -> tuple[GraphInput, ...]:
    """The inputs of a graph as a manifest has them."""
    return tuple(GraphInput(name=t.name, dtype=t.dtype, axis=t.axis, width=t.width) for t in shape.inputs)


def _inputs_of(graph: onnx.ModelProto, graphs: CollapsedGraphs, known: Sequence[GraphInput]) -> tuple[GraphInput, ...]:
    by_name = {each.name: each for each in known}
    if graphs.item is not None:
        by_name[ITEM_PART] = GraphInput(name=ITEM_PART, dtype="float32", axis="rows", width=graphs.item_width)
    return tuple(by_name[value.name] for value in graph.graph.input)


@dataclass(frozen=True, slots=True)
class _FormSessions:
    """The written forms, opened."""

    item: onnxruntime.InferenceSession | None
    one_user: onnxruntime.InferenceSession
    many_users: onnxruntime.InferenceSession

    @classmethod
    def open(cls, folder: Path, graphs: CollapsedGraphs) -> _FormSessions:
        item = None if graphs.item is None else open_session(folder / ITEM_FILE)
        return cls(item, open_session(folder / ONE_USER_FILE), open_session(folder / MANY_USERS_FILE))

    def item_part(self, tensors: Mapping[str, np.ndarray]) -> Arrays:
        """The item part of rows, by its name; empty where there is none."""
        return {} if self.item is None else _run(self.item, tensors)


def _run(session: onnxruntime.InferenceSession, tensors: Mapping[str, np.ndarray]) -> Arrays:
    names = [output.name for output in session.get_outputs()]
    feeds = {each.name: tensors[each.name] for each in session.get_inputs()}
    return dict(zip(names, session.run(names, feeds), strict=True))


def _parity(forms: _FormSessions, run: TrainedRun, shape: GraphShape) -> Parity:
    """Largest difference of either form from torch, by case."""
    differences = {}
    for name, case in {"golden_rows": shape.select(run.golden), **dict(parity_cases(run.inputs, shape))}.items():
        expected = torch_outputs(run.network, case)
        tensors = {key: tensor.numpy() for key, tensor in case.items()}
        tensors |= forms.item_part(tensors)
        differences[f"many_users.{name}"] = largest_difference(_run(forms.many_users, tensors), expected)
        differences[f"one_user.{name}"] = max(_alone(forms, shape, tensors, expected))
    return held_to_tolerance(differences)


def _alone(forms: _FormSessions, shape: GraphShape, tensors: Arrays, expected: Arrays) -> Iterator[float]:
    """The difference of each of some users, scored alone with the rows of the case that are that user's."""
    rows = len(next(iter(expected.values())))
    row_user = tensors.get("row_user", np.zeros(rows, np.int32))
    users_axis = {each.name for each in shape.inputs if each.axis == "users"}
    for user in np.unique(row_user)[:_USERS_ALONE]:
        mine = row_user == user
        feeds = {name: array[user : user + 1] if name in users_axis else array[mine] for name, array in tensors.items()}
        yield largest_difference(_run(forms.one_user, feeds), {name: values[mine] for name, values in expected.items()})


def _write_item_part(
    staged: Path, graphs: CollapsedGraphs, forms: _FormSessions, inputs: Sequence[GraphInput], catalogue: Catalogue | None
) -> ItemPart | None:
    if graphs.item is None or forms.item is None:
        return None
    item_inputs = _inputs_of(graphs.item, graphs, inputs)
    if catalogue is not None:
        needed = {each.name: catalogue[each.name] for each in item_inputs}
        np.save(staged / TABLE_FILE, _table(forms, needed))
        np.savez(staged / TABLE_INPUTS_FILE, allow_pickle=False, **needed)
    return ItemPart(
        onnx=ITEM_FILE,
        inputs=item_inputs,
        width=graphs.item_width,
        table=None if catalogue is None else TABLE_FILE,
        table_inputs=None if catalogue is None else TABLE_INPUTS_FILE,
    )


def _table(forms: _FormSessions, catalogue: Catalogue) -> np.ndarray:
    count = len(next(iter(catalogue.values())))
    cuts = range(0, count, _ROWS_AT_ONCE)
    parts = [forms.item_part({name: rows[cut : cut + _ROWS_AT_ONCE] for name, rows in catalogue.items()}) for cut in cuts]
    return np.concatenate([part[ITEM_PART] for part in parts])
