"""The steps of the line, each one command of the project. Nothing happens here that a user could not type."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

NETWORKS = ("deepfm", "din")
CONFIGS = Path("demo") / "configs"


class StepFailedError(Exception):
    """A command of the line failed; its own output, just above, says why."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where one data set's line keeps its things: ``var/<name>/{data, runs, models, store, state, plan.yaml}``."""

    root: Path

    @property
    def data(self) -> Path:
        """Converted tables and ``views.yaml``."""
        return self.root / "data"

    @property
    def runs(self) -> Path:
        """Training runs."""
        return self.root / "runs"

    @property
    def models(self) -> Path:
        """The model repository."""
        return self.root / "models"

    @property
    def store(self) -> Path:
        """The embedded store's directory."""
        return self.root / "store"

    @property
    def plan(self) -> Path:
        """The experiment plan."""
        return self.root / "plan.yaml"

    def environment(self, views: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The settings of a service on this workspace and the data behind ``views``."""
        settings = {
            "RANKLINE_VIEWS": str(views),
            "RANKLINE_EVENTS__SPOOL_DIRECTORY": str(self.root / "spool"),
            "RANKLINE_MODELS__REPOSITORY": str(self.models),
            "RANKLINE_STORE__DIRECTORY": str(self.store),
            "RANKLINE_PLAN__PATH": str(self.plan),
            "RANKLINE_PLAN__STATE_DIRECTORY": str(self.root / "state"),
        }
        return {**os.environ, **settings, **(extra or {})}


def say(text: str) -> None:
    """Announce a step."""
    print(f"\n== {text}", flush=True)  # noqa: T201 - the demo talks to a person


def run_command(arguments: Sequence[str]) -> None:
    """Run one of the project's commands; it has our terminal, so that its progress bars show.

    Raises:
        StepFailedError: it exited with an error.
    """
    print(f"$ python {' '.join(arguments)}", flush=True)  # noqa: T201
    code = subprocess.run([sys.executable, *arguments], check=False).returncode
    if code != 0:
        raise StepFailedError(f"python {' '.join(arguments)} exited with {code}")


def prepare_data(source: str | None, root: Path) -> tuple[Workspace, Path]:
    """Bring the data through the one door; gives the workspace and the path of the feature views.

    ``source`` is None for made data, a folder of MovieLens, or a team's own feature-view YAML.
    """
    if source is not None and not Path(source).exists():
        raise StepFailedError(f"{source}: no such file or folder")
    if source is not None and Path(source).is_file():
        views = Path(source).resolve()
        workspace = Workspace(root / f"{views.stem}-{hashlib.sha256(str(views).encode()).hexdigest()[:8]}")
    else:
        name = "simulated" if source is None else Path(source).resolve().name
        workspace = Workspace(root / name)
        views = workspace.data / "views.yaml"
        if not views.exists():
            command = ["simulate"] if source is None else ["convert", source]
            run_command(["-m", "models", *command, str(workspace.data)])
    run_command(["-m", "models", "validate-data", str(views)])
    return workspace, views


def train(workspace: Workspace, views: Path, network: str, seed: int, recipe: Path | None = None) -> Path:
    """Train a network by ``recipe``, the data set's own, or the network's defaults; gives the run's directory."""
    recipe = recipe or _recipe(views, network)
    arguments = ["-m", "models", "train", str(views), "--network", network, "--seed", str(seed), "--out", str(workspace.runs)]
    before = set(workspace.runs.glob("*"))
    run_command([*arguments, "--config", str(recipe)] if recipe.exists() else arguments)
    (run,) = set(workspace.runs.glob("*")) - before
    return run


def train_and_publish(workspace: Workspace, views: Path, network: str, seed: int) -> None:
    """Train, export with its parity check, and publish; a network that is already published is left as it is."""
    stamp = workspace.root / f"{network}.stamp"
    made_from = _fingerprint(views, network)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == made_from:
        print(f"{network} is published already, from the same data and recipe")  # noqa: T201
        return
    run = train(workspace, views, network, seed)
    run_command(["-m", "models", "export", str(run), "--repository", str(workspace.models)])
    stamp.write_text(made_from, encoding="utf-8")


def _recipe(views: Path, network: str) -> Path:
    """The data set's own recipe, where the demo has one."""
    return CONFIGS / str(yaml.safe_load(views.read_text(encoding="utf-8"))["name"]) / f"{network}.yaml"


def _fingerprint(views: Path, network: str) -> str:
    """Changes with the views, the tables and the recipe."""
    recipe = _recipe(views, network)
    tables = yaml.safe_load(views.read_text(encoding="utf-8"))["tables"].values()
    digest = hashlib.sha256()
    for path in [views, *(views.parent / table for table in tables), *([recipe] if recipe.exists() else [])]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def materialize(workspace: Workspace, views: Path) -> None:
    """Write users, items and histories into the store: the one named by RANKLINE_STORE__URL, else the embedded one."""
    url = os.environ.get("RANKLINE_STORE__URL")
    target = ["--redis", url] if url else ["--embedded", str(workspace.store)]
    run_command(["-m", "feature_store", "materialize", str(views), *target])


PLAN = """\
# Half of the users are ranked by DIN, half by DeepFM. Edit and save: the service takes it up within a second.
version: 1
defaults:
  model: din@latest
layers:
  - name: ranking
    owns: [model]
    experiments:
      - name: din-vs-deepfm
        traffic: [0, 10000]
        control: deepfm
        arms:
          - {name: deepfm, buckets: [0, 5000], params: {model: deepfm@latest}}
          - {name: din, buckets: [5000, 10000], params: {model: din@latest}}
"""


def write_plan(workspace: Workspace) -> None:
    """Put the example plan in place, unless there is one."""
    if not workspace.plan.exists():
        workspace.plan.write_text(PLAN, encoding="utf-8")
