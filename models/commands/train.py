"""``python -m models train VIEWS --network NAME --out RUNS``"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from feature_store.strict_yaml import StrictYamlError, read_strict_yaml
from feature_store.table_problems import TablesInvalidError
from feature_store.views import ViewsError
from models.training.config import RunConfig, RunConfigError, check_run_config
from models.training.loop import TrainingError
from models.training.report import metric_table
from models.training.run import StartedRun, finish_run, resume_run, start_run
from models.training.run_directory import RunRefusedError
from models.training.split import SplitEmptyError
from models.zoo.options import OptionsError
from models.zoo.registry import NETWORKS

_REFUSALS = (ViewsError, TablesInvalidError, SplitEmptyError, RunConfigError, RunRefusedError, OptionsError, TrainingError)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to learn from, what to train, where to put it."""
    parser.add_argument("views", type=Path, help="feature-view YAML")
    parser.add_argument("--network", choices=list(NETWORKS), help="the network (may stand in --config instead)")
    parser.add_argument("--config", type=Path, help="recipe YAML: network, options, rates, epochs ...")
    parser.add_argument("--label", help="label to learn; the views' first by default")
    parser.add_argument("--epochs", type=int, help="at most this many epochs")
    parser.add_argument("--seed", type=int, help="seed of weights, order and dropout")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, help="folder in which the run's own folder is made")
    target.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with a stopped run; it keeps its own recipe")


def run(args: argparse.Namespace) -> int:
    """Train; prints a table of metrics and, as the last line, ``run: PATH``."""
    try:
        started = _start(args)
        root = started.directory.root
        print(f"training in {root}; once stopped, it goes on with: train {args.views} --resume {root}", file=sys.stderr)
        fitted = finish_run(started, progress=sys.stdout.isatty()).fitted
    except _REFUSALS as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 1
    print(metric_table([("valid", fitted.valid), ("test", fitted.test)]))
    print(f"run: {root}")
    return 0


def _start(args: argparse.Namespace) -> StartedRun:
    given = {name: getattr(args, name) for name in ("network", "label", "epochs", "seed") if getattr(args, name) is not None}
    if args.resume is None:
        return start_run(args.views, _run_config(args.config, given), args.out)
    if given or args.config:
        raise RunConfigError("--resume keeps the run's own recipe: leave out --network, --config, --label, --epochs and --seed")
    return resume_run(args.views, args.resume)


def _run_config(path: Path | None, given: dict[str, Any]) -> RunConfig:
    """The recipe file with the command line's words over it; the two may not name different networks."""
    if path is None and "network" not in given:
        raise RunConfigError("name a network with --network, or a recipe with --config")
    data: Any = {}
    if path is not None:
        try:
            data = read_strict_yaml(path)
        except StrictYamlError as error:
            raise RunConfigError(str(error)) from None
    if not isinstance(data, dict):
        raise RunConfigError(f"{path}: a mapping of keys to values is needed")
    if data.get("network", given.get("network")) != given.get("network", data.get("network")):
        raise RunConfigError(f"{path}: network: is {data['network']!r}, but --network says {given['network']!r}")
    return check_run_config({**data, **given}, source=str(path or "command line"))
