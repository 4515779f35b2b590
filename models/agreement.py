"""When do two sets of scores agree? One rule for the plain graph and its collapsed forms, run by ONNX Runtime; no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-5
"""Of every output."""
LOGIT_TOLERANCE = 1e-4
"""Of probabilities, taken back to logits."""
_EDGE = 1e-6
_ERRORS_ONLY_IF_FATAL = 4

Arrays = dict[str, np.ndarray]


class ParityError(Exception):
    """Scores that must be the same are not; the message names the case, the output and the difference."""


def open_session(graph: Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    """The graph on the CPU."""
    options = onnxruntime.SessionOptions()
    # The default ignores the CPUs that the process may use.
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = _ERRORS_ONLY_IF_FATAL
    source = graph if isinstance(graph, Path) else graph.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_graph(session: onnxruntime.InferenceSession, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The outputs by name; ``arrays`` may hold more than the graph reads."""
    names = [output.name for output in session.get_outputs()]
    given = {each.name: np.ascontiguousarray(arrays[each.name]) for each in session.get_inputs()}
    return dict(zip(names, session.run(names, given), strict=True))


def largest_difference(case: str, expected: Arrays, found: Arrays) -> float:
    """The largest absolute difference of any output of ``expected``.

    Outputs [rows] within [0, 1] are probabilities. They are compared as logits, too, clipped to [1e-6, 1 - 1e-6], as far as
    float32 still tells logits apart.

    Raises:
        ParityError: a shape is another, a difference is above ``TOLERANCE`` (``LOGIT_TOLERANCE`` of logits) or not a number.
    """
    largest = 0.0
    for name, values in expected.items():
        if found[name].shape != values.shape:
            raise ParityError(f"case {case}: {name} has the shape {found[name].shape}, not {values.shape}")
        left, right = values.astype(np.float64), found[name].astype(np.float64)
        difference = float(np.abs(left - right).max(initial=0.0))
        if not difference <= TOLERANCE:
            raise ParityError(f"case {case}: {name} differs by {difference:g}, more than {TOLERANCE:g}")
        excess = _logit_excess(left, right) if _are_probabilities(values) else 0.0
        if not excess <= 0:
            raise ParityError(f"case {case}: a logit of {name} differs by {excess:g} more than {LOGIT_TOLERANCE:g}")
        largest = max(largest, difference)
    return largest


def _are_probabilities(values: np.ndarray) -> bool:
    return values.ndim == 1 and bool(((values >= 0) & (values <= 1)).all())


def _logit_excess(expected: np.ndarray, found: np.ndarray) -> float:
    """By how much the worst logit is off beyond the tolerance, and beyond two steps of float32 at one.

    That is what a sigmoid in float32 is exact to, whatever the probability: at 0.001 and at 0.999 one step moves the logit by
    1e-4.
    """
    left, right = (np.clip(each, _EDGE, 1 - _EDGE) for each in (expected, found))
    difference = np.abs(np.log(left / (1 - left)) - np.log(right / (1 - right)))
    steps = 2 * float(np.finfo(np.float32).eps) / (left * (1 - left))
    return float((difference - steps - LOGIT_TOLERANCE).max(initial=-LOGIT_TOLERANCE))
