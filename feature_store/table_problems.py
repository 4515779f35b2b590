"""What is wrong with a team's tables: every problem, each with its file, row, column and reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

MAX_EXAMPLES = 20
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class TableProblem:
    """One fault. ``row`` counts data rows from 1 (in a CSV without line breaks inside quotes, the line is ``row + 1``).

    ``row`` and ``column`` are None where the whole column or file is meant.
    """

    file: str
    row: int | None
    column: str | None
    reason: str

    def __str__(self) -> str:
        place = [self.file]
        if self.row is not None:
            place.append(f"row {self.row}")
        if self.column is not None:
            place.append(f"column {self.column}")
        return f"{', '.join(place)}: {self.reason}"


class TablesInvalidError(ValueError):
    """The tables cannot be used; ``problems`` lists every reason found, with at most 20 rows of each kind."""

    def __init__(self, problems: Iterable[TableProblem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


class ProblemLog:
    """Collects the problems of one reading, so that a team mends its files once and not fault by fault."""

    def __init__(self) -> None:
        self._problems: list[TableProblem] = []
        self._reported: set[tuple[str, str | None, str]] = set()

    def add(self, file: str, reason: str, *, row: int | None = None, column: str | None = None) -> None:
        """Note one problem."""
        self._problems.append(TableProblem(file, row, column, reason))

    def add_rows(self, file: str, column: str, bad: pl.Series, values: pl.Series, reason: str) -> None:
        """Note the rows where ``bad`` is true: the first ``MAX_EXAMPLES`` with their value, then how many more there are.

        The same reason for the same column is noted once: a label and the history may both read one faulty column.
        """
        kind = (file, column, reason)
        places = bad.fill_null(value=False).arg_true()
        if kind in self._reported or not len(places):
            return
        self._reported.add(kind)
        for place in places.head(MAX_EXAMPLES).to_list():
            self.add(file, f"{shown(values[place])} {reason}", row=place + 1, column=column)
        if len(places) > MAX_EXAMPLES:
            self.add(file, f"{len(places) - MAX_EXAMPLES:,} more rows ({len(places):,} in all): {reason}", column=column)

    def faulty(self, file: str, column: str) -> bool:
        """Whether something was noted of this column."""
        return any((problem.file, problem.column) == (file, column) for problem in self._problems)

    def raise_if_any(self) -> None:
        """End the reading when something was noted.

        Raises:
            TablesInvalidError: with all problems.
        """
        if self._problems:
            raise TablesInvalidError(self._problems)


def shown(value: object) -> str:
    """A value as a message may show it: quoted and escaped, on one line, shortened."""
    if value is None:
        return "an empty cell"
    if isinstance(value, pl.Series):
        value = value.to_list()
    text = repr(value) if isinstance(value, str | list) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
