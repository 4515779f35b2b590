"""The quality table: every network of the main line on one data set, over several seeds, by its recipe in ``demo/configs``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo.steps import Workspace, train

NETWORKS = ("deepfm", "mean_pooling", "din")
METRICS = ("auc", "gauc", "logloss", "ndcg_at_10", "accuracy", "precision", "recall", "f1")


def measure_quality(workspace: Workspace, views: Path, seeds: Sequence[int]) -> str:
    """Train everything; writes ``quality.json`` with each run's metrics and gives the table as Markdown."""
    runs = {name: [_metrics(train(workspace, views, name, seed)) for seed in seeds] for name in NETWORKS}
    (workspace.root / "quality.json").write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")
    head = f"| network | {' | '.join(METRICS)} | epochs | s/run |"
    lines = [head, "|---" * (len(METRICS) + 3) + "|", *(_row(name, each) for name, each in runs.items())]
    return "\n".join(lines)


def _metrics(run: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_bytes())
    return {name: metrics[name] for name in ("run_id", "seed", "valid", "test", "training", "library_versions")}


def _row(name: str, runs: Sequence[dict[str, Any]]) -> str:
    cells = [_spread([run["test"][metric] for run in runs]) for metric in METRICS]
    epochs = "/".join(str(run["training"]["epochs"]) for run in runs)
    seconds = statistics.mean(run["training"]["seconds"] for run in runs)
    return f"| {name} | {' | '.join(cells)} | {epochs} | {seconds:.0f} |"


def _spread(values: Sequence[float]) -> str:
    """Mean, and the standard deviation over seeds where there are several."""
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.4f}"
