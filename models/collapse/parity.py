"""The gate: does a collapsed version say what the plain graph says? A wrong colouring must not pass it.

The item's part is computed as serving does it, in another order and with other neighbours than the request's rows, so that
nothing of a request can leak into it; each user is scored alone. Nothing is published that has not passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from models.agreement import Arrays, ParityError, largest_difference, open_session, run_graph
from models.collapse.collapse import CollapsedGraphs
from models.collapse.dependence import ROW_USER, source_of
from models.collapse.graph_ir import Source
from models.manifest import ITEM_PART, GraphInput

Reference = Callable[[Mapping[str, np.ndarray]], Arrays]
"""The plain graph's inputs to the outputs that the forms must give."""


class CollapseError(ParityError):
    """A collapsed version does not say what it must; the message names the case and the difference."""


@dataclass(frozen=True, slots=True)
class FormSessions:
    """A collapsed version's graphs, opened."""

    item: onnxruntime.InferenceSession | None
    one_user: onnxruntime.InferenceSession
    many_users: onnxruntime.InferenceSession

    @classmethod
    def open(
        cls, item: Path | onnx.ModelProto | None, one_user: Path | onnx.ModelProto, many_users: Path | onnx.ModelProto
    ) -> FormSessions:
        """From files or graphs.

        Raises:
            CollapseError: ONNX Runtime refuses one.
        """
        try:
            return cls(None if item is None else open_session(item), open_session(one_user), open_session(many_users))
        except Exception as error:
            # ONNX Runtime raises its own kinds, which share no base.
            raise CollapseError(f"a collapsed graph does not open: {error}") from error


def check_collapsed(
    plain: onnx.ModelProto,
    graphs: CollapsedGraphs,
    inputs: Sequence[GraphInput],
    cases: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, float]:
    """``check_forms`` of graphs that are not written yet, against the plain graph."""
    session = open_session(plain)
    forms = FormSessions.open(graphs.item, graphs.one_user, graphs.many_users)
    return check_forms(forms, inputs, cases, lambda case: run_graph(session, case))


def check_forms(
    forms: FormSessions,
    inputs: Sequence[GraphInput],
    cases: Mapping[str, Mapping[str, np.ndarray]],
    reference: Reference,
) -> dict[str, float]:
    """Largest absolute difference of any output from the reference's, by form and case (``one_user.CASE``).

    ``cases`` maps names to the plain graph's inputs. Every user of a case is also scored alone.

    Raises:
        CollapseError: a form reads what it must not, or fails; there is no case.
        ParityError: a form's scores are not the reference's.
    """
    if not cases:
        raise CollapseError("no case to compare")
    _check_inputs(forms, inputs)
    differences: dict[str, float] = {}
    try:
        for name, case in cases.items():
            expected = reference(case)
            given = {**case, **_item_part(forms, case)}
            differences[f"many_users.{name}"] = largest_difference(
                f"many_users.{name}", expected, run_graph(forms.many_users, given)
            )
            differences[f"one_user.{name}"] = max(_each_alone(forms, inputs, name, given, expected))
    except ParityError:
        raise
    except Exception as error:
        # As above.
        raise CollapseError(f"a collapsed graph does not run: {error}") from error
    return differences


def _check_inputs(forms: FormSessions, inputs: Sequence[GraphInput]) -> None:
    """Each graph may read only what it will be given."""
    of_item = {each.name for each in inputs if each.name != ROW_USER and source_of(each) is Source.ITEM}
    known = {each.name for each in inputs} | ({ITEM_PART} if forms.item is not None else set())
    allowed = {"item": of_item, "one_user": known - {ROW_USER}, "many_users": known}
    sessions = {"item": forms.item, "one_user": forms.one_user, "many_users": forms.many_users}
    for name, session in sessions.items():
        read = {each.name for each in session.get_inputs()} if session is not None else set()
        if read - allowed[name]:
            raise CollapseError(f"the graph {name} reads {', '.join(sorted(read - allowed[name]))}")


def _item_part(forms: FormSessions, case: Mapping[str, np.ndarray]) -> Arrays:
    """The item part of each row, from runs in reverse order and in two halves."""
    if forms.item is None:
        return {}
    turned = {each.name: case[each.name][::-1] for each in forms.item.get_inputs()}
    rows = len(next(iter(turned.values())))
    halves = [half for half in (slice(0, rows // 2), slice(rows // 2, rows)) if half.start < half.stop]
    runs = [run_graph(forms.item, {name: array[half] for name, array in turned.items()})[ITEM_PART] for half in halves]
    return {ITEM_PART: np.concatenate(runs)[::-1]}


def _each_alone(
    forms: FormSessions, inputs: Sequence[GraphInput], name: str, given: Mapping[str, np.ndarray], expected: Arrays
) -> Iterator[float]:
    """The difference of each user's rows, scored with nobody else's."""
    of_users = {each.name for each in inputs if each.axis == "users"}
    row_user = given.get(ROW_USER, np.zeros(len(next(iter(expected.values()))), np.int32))
    for user in np.unique(row_user):
        mine = row_user == user
        feeds = {key: array[user : user + 1] if key in of_users else array[mine] for key, array in given.items()}
        found = run_graph(forms.one_user, feeds)
        yield largest_difference(f"one_user.{name}, user {user}", {key: each[mine] for key, each in expected.items()}, found)
