"""Tables in Markdown, and results as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from feature_store.benchmarks.timing import Spread, Times, ratio

COMMAND = "python -m feature_store bench"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, an empty one behind; all columns but the first are numbers."""
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def machine_lines(machine: Mapping[str, str]) -> list[str]:
    """The machine as a list."""
    return [*(f"- {name}: {text}" for name, text in machine.items()), ""]


def spread_text(spread: Spread) -> str:
    """Milliseconds: the median and, small, the quartiles."""
    return f"{spread.median:.2f} ({spread.first_quartile:.2f}-{spread.third_quartile:.2f})"


def share_text(spread: Spread) -> str:
    """A ratio as one part in so many: the median and the quartiles."""
    middle, low, high = (1 / each for each in (spread.median, spread.third_quartile, spread.first_quartile))
    return f"1/{middle:.1f} ({low:.1f}-{high:.1f})"


def times_json(times: Times, against: str) -> dict[str, Any]:
    """Spreads by way, each with its ratio to one of the ways."""
    return {
        way: {
            "rounds": len(values),
            "ms": rounded(asdict(Spread.of(values))),
            f"of {against}": rounded(asdict(ratio(times, way, against))),
        }
        for way, values in times.items()
    }


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures with five decimals: more would only be noise."""
    return {name: round(figure, 5) for name, figure in figures.items()}


def write_report(folder: Path, name: str, lines: Sequence[str], result: Mapping[str, Any]) -> None:
    """``<name>.md`` and ``<name>.json`` in the folder, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    data = msgspec.json.format(msgspec.json.encode(result, enc_hook=str), indent=1)
    (folder / f"{name}.json").write_bytes(data + b"\n")
