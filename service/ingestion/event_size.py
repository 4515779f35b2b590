"""How much one event may bring: counted before any of its values is read, since whoever reads holds up everybody's rankings."""

from __future__ import annotations

from collections.abc import Mapping

from service.errors import FieldProblem

MAX_EVENT_BYTES = 16_384
"""An event is kept in the spool, in the log and for a while in memory: a longer one is refused."""

MAX_LIST_VALUES = 1_000
MAX_VALUES = 2_000
"""Context values of one event, the elements of its lists included."""


def values_in(context: Mapping[str, object]) -> int:
    """How many values there are to read, by the lengths of the lists: no element is looked at."""
    return len(context) + sum(len(value) for value in context.values() if isinstance(value, list))


def size_problem(context: Mapping[str, object]) -> FieldProblem | None:
    """The first thing that is too large to be read, or None. A character is at least a byte: encoding can wait."""
    for name, value in context.items():
        if isinstance(value, list) and len(value) > MAX_LIST_VALUES:
            return FieldProblem(f"context.{name}", f"a list of at most {MAX_LIST_VALUES:,} values is needed")
        if isinstance(value, str) and len(value) > MAX_EVENT_BYTES:
            return FieldProblem(f"context.{name}", f"longer than {MAX_EVENT_BYTES} bytes")
    if values_in(context) > MAX_VALUES:
        return FieldProblem("context", f"at most {MAX_VALUES:,} values, those in lists included")
    return None
