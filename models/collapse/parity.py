"""The gate: does a collapsed version say what the plain graph says? A wrong colouring must not pass it.

Both sides run in ONNX Runtime on the same requests. The item's part is computed as serving does it, in another order and with
other neighbours than the request's rows, so that nothing of a request can leak into it; each user is scored alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime

from models.collapse.collapse import CollapsedGraphs
from models.collapse.dependence import ROW_USER
from models.manifest import ITEM_PART, GraphInput

TOLERANCE = 1e-5
LOGIT_TOLERANCE = 1e-4
_EDGE = 1e-6

Arrays = dict[str, np.ndarray]


class CollapseError(Exception):
    """A collapsed version does not say what the plain graph says; the message names the case and the difference."""


def check_collapsed(
    plain: onnx.ModelProto,
    graphs: CollapsedGraphs,
    inputs: Sequence[GraphInput],
    cases: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, float]:
    """Largest absolute difference of any output, by case, of both forms against the plain graph.

    ``cases`` maps names to the plain graph's inputs. Outputs are probabilities (or attention weights). Probabilities are
    compared as logits, too, clipped to [1e-6, 1 - 1e-6], as far as float32 still tells logits apart.

    Raises:
        CollapseError: a form reads what it must not, fails, or differs by more than ``TOLERANCE`` (``LOGIT_TOLERANCE``).
    """
    if not cases:
        raise CollapseError("no case to compare")
    _check_inputs(graphs, inputs)
    try:
        runner = _Runner(plain, graphs, inputs)
        return {name: runner.difference(name, case) for name, case in cases.items()}
    except CollapseError:
        raise
    except Exception as error:
        # ONNX Runtime raises its own kinds, which share no base.
        raise CollapseError(f"a collapsed graph does not run: {error}") from error


def _check_inputs(graphs: CollapsedGraphs, inputs: Sequence[GraphInput]) -> None:
    """Each graph may read only what it will be given."""
    of_item = {each.name for each in inputs if each.axis == "rows" and each.name.startswith("item_")}
    known = {each.name for each in inputs} | {ITEM_PART}
    allowed = {"item": of_item, "one_user": known - {ROW_USER}, "many_users": known}
    models = {"item": graphs.item, "one_user": graphs.one_user, "many_users": graphs.many_users}
    for name, model in models.items():
        read = {each.name for each in model.graph.input} if model is not None else set()
        if read - allowed[name]:
            raise CollapseError(f"the graph {name} reads {', '.join(sorted(read - allowed[name]))}")


class _Runner:
    def __init__(self, plain: onnx.ModelProto, graphs: CollapsedGraphs, inputs: Sequence[GraphInput]) -> None:
        self.plain = _session(plain)
        self.one_user, self.many_users = _session(graphs.one_user), _session(graphs.many_users)
        self.item = _session(graphs.item) if graphs.item is not None else None
        self.inputs = inputs

    def difference(self, name: str, case: Mapping[str, np.ndarray]) -> float:
        expected = _run(self.plain, case)
        given = {**case, **self._item_part(case)}
        found = {"many users": (slice(None), _run(self.many_users, given))}
        rows = len(next(iter(expected.values())))
        row_user = case.get(ROW_USER, np.zeros(rows, np.int32))
        for user in np.unique(row_user):
            of_user = row_user == user
            found[f"user {user} alone"] = of_user, _run(self.one_user, self._of_user(given, int(user), of_user))
        return max(_compared(f"{name}, {form}", expected, chosen, got) for form, (chosen, got) in found.items())

    def _item_part(self, case: Mapping[str, np.ndarray]) -> Arrays:
        """The item part of each row, from runs in reverse order and in two halves."""
        if self.item is None:
            return {}
        names = [each.name for each in self.item.get_inputs()]
        turned = {name: case[name][::-1] for name in names}
        rows = len(turned[names[0]])
        halves = [half for half in (slice(0, rows // 2), slice(rows // 2, rows)) if half.start < half.stop]
        runs = [_run(self.item, {name: turned[name][half] for name in names})[ITEM_PART] for half in halves]
        return {ITEM_PART: np.concatenate(runs)[::-1]}

    def _of_user(self, given: Mapping[str, np.ndarray], user: int, rows: np.ndarray) -> Arrays:
        axes = {each.name: each.axis for each in self.inputs}
        return {name: array[user : user + 1] if axes.get(name) == "users" else array[rows] for name, array in given.items()}


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, arrays: Mapping[str, np.ndarray]) -> Arrays:
    names = [output.name for output in session.get_outputs()]
    given = {each.name: np.ascontiguousarray(arrays[each.name]) for each in session.get_inputs()}
    return dict(zip(names, session.run(names, given), strict=True))


def _compared(where: str, expected: Arrays, chosen: slice | np.ndarray, found: Arrays) -> float:
    largest = 0.0
    for name, values in expected.items():
        if found[name].shape != values[chosen].shape:
            raise CollapseError(f"case {where}: {name} has the shape {found[name].shape}, not {values[chosen].shape}")
        plain, ours = values[chosen].astype(np.float64), found[name].astype(np.float64)
        difference = float(np.abs(plain - ours).max(initial=0.0))
        logits = _logit_excess(plain, ours) if _are_probabilities(values) else 0.0
        if not difference <= TOLERANCE:
            raise CollapseError(f"case {where}: {name} differs by {difference:g}, more than {TOLERANCE:g}")
        if not logits <= 0:
            raise CollapseError(f"case {where}: a logit of {name} differs by {logits:g} more than {LOGIT_TOLERANCE:g}")
        largest = max(largest, difference)
    return largest


def _are_probabilities(values: np.ndarray) -> bool:
    return values.ndim == 1 and bool(((values >= 0) & (values <= 1)).all())


def _logit_excess(plain: np.ndarray, ours: np.ndarray) -> float:
    """By how much the worst logit is off beyond the tolerance, and beyond two steps of float32 at one.

    That is what ONNX Runtime's sigmoid is exact to, whatever the probability: at 0.001 and at 0.999 one step moves the logit by
    1e-4.
    """
    left, right = (np.clip(each, _EDGE, 1 - _EDGE) for each in (plain, ours))
    difference = np.abs(np.log(left / (1 - left)) - np.log(right / (1 - right)))
    steps = 2 * float(np.finfo(np.float32).eps) / (left * (1 - left))
    return float((difference - steps - LOGIT_TOLERANCE).max(initial=-LOGIT_TOLERANCE))
