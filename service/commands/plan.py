"""``python -m service plan check FILE``: say everything that is wrong with a plan, or what it does. Starts nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.repository import ModelReference, ModelRepository
from service.experiments.errors import PlanInvalidError
from service.experiments.plan import parse_plan
from service.experiments.plan_description import describe_plan
from service.experiments.plan_file import read_plan_text


class PublishedModels:
    """The versions published in a model repository, as a plan's check asks for them."""

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    def score_names(self, reference: ModelReference) -> tuple[str, ...]:
        """The names of the model's scores, by its manifest.

        Raises:
            RepositoryError: no such published version, or its manifest is broken.
        """
        return self._repository.open(reference).manifest.score_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="list every problem of a plan, or show what it does", description=__doc__)
    check.add_argument("file", type=Path, metavar="FILE", help="the plan's YAML")
    check.add_argument(
        "--models", type=Path, metavar="DIRECTORY", help="also check models and scores against this model repository"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the plan: 0 and a summary on stdout, or 1 and one problem per line on stderr."""
    known = None if arguments.models is None else PublishedModels(ModelRepository(arguments.models))
    try:
        plan = parse_plan(read_plan_text(arguments.file), known)
    except PlanInvalidError as error:
        sys.stderr.write("".join(f"{line}\n" for line in _refusal(arguments.file, error.problems)))
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in _summary(describe_plan(plan), models_checked=known is not None)))
    return 0


def _refusal(path: Path, problems: tuple[str, ...]) -> Iterator[str]:
    yield f"{path}: refused, {len(problems)} problem{'s' if len(problems) != 1 else ''}"
    for problem in problems:
        yield f"  {problem}"


def _summary(plan: dict[str, Any], *, models_checked: bool) -> Iterator[str]:
    yield f"defaults: {_params(plan['defaults'])}"
    for layer in plan["layers"]:
        yield f"layer {layer['name']}: owns {', '.join(layer['owns']) or 'nothing'}; {_draw(layer)}"
        for experiment in layer["experiments"]:
            yield f"  experiment {experiment['name']}: {experiment['traffic_share']:.4%} of units; {_draw(experiment)}"
            for arm in experiment["arms"]:
                control = " (control)" if arm["name"] == experiment["control"] else ""
                yield f"    arm {arm['name']}{control}: {arm['share']:.4%} of units; {_params(arm['params'])}"
    yield "valid" if models_checked else "valid; models and scores were not checked (give --models)"


def _draw(drawn: dict[str, Any]) -> str:
    return f"salt {drawn['salt']!r}, {drawn['num_buckets']} buckets"


def _params(params: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items() if value is not None) or "the defaults"
