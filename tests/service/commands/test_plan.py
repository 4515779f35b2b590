"""``python -m service plan check``: what a plan's author sees."""

from __future__ import annotations

import argparse

import pytest

from models.repository import ModelReference, ModelRepository
from service.commands import plan
from service.commands.plan import PublishedModels
from tests.service.experiments.plans import FULL_PLAN


def _run(*arguments):
    parser = argparse.ArgumentParser()
    plan.add_arguments(parser)
    return plan.run(parser.parse_args(["check", *map(str, arguments)]))


@pytest.fixture
def plan_file(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(FULL_PLAN)
    return path


def test_a_good_plan_is_summed_up_with_every_arms_share_of_all_units(plan_file, capsys):
    assert _run(plan_file) == 0
    assert capsys.readouterr().out.splitlines() == [
        "defaults: model din@latest, top_k 100",
        "layer ranking: owns model, top_k; salt 'ranking-layer', 10000 buckets",
        "  experiment din-vs-deepfm: 50.0000% of units; salt 'experiment:din-vs-deepfm', 10000 buckets",
        "    arm control (control): 25.0000% of units; model deepfm@latest",
        "    arm treatment: 25.0000% of units; model din@3, top_k 20",
        "  experiment longer-history: 10.0000% of units; salt 'experiment:longer-history', 10000 buckets",
        "    arm short (control): 1.2500% of units; the defaults",
        "    arm long: 8.7500% of units; model din-long@1",
        "layer objective: owns score; salt 'layer:objective', 10000 buckets",
        "  experiment by-cvr: 20.0000% of units; salt 'experiment:by-cvr', 10000 buckets",
        "    arm ctr (control): 19.9980% of units; the defaults",
        "    arm cvr: 0.0020% of units; score cvr",
        "valid; models and scores were not checked (give --models)",
    ]


def test_a_bad_plan_is_refused_with_one_line_per_problem(plan_file, capsys):
    plan_file.write_text(FULL_PLAN.replace("[5000, 6000]", "[4000, 6000]").replace("version: 1", "version: 2"))
    assert _run(plan_file) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    first, *problems = captured.err.splitlines()
    assert first == f"{plan_file}: refused, 2 problems"
    assert [line.split(":")[0] for line in problems] == ["  version", "  layers.0.experiments.1.traffic"]


def test_a_missing_file_is_one_problem_that_names_it(tmp_path, capsys):
    assert _run(tmp_path / "none.yaml") == 1
    assert f"{tmp_path / 'none.yaml'}: No such file or directory" in capsys.readouterr().err


def test_models_are_checked_against_a_repository_if_one_is_given(plan_file, tmp_path, capsys):
    assert _run(plan_file, "--models", tmp_path / "models") == 1
    assert capsys.readouterr().err.count("no published version") == 4


def test_the_published_scores_are_those_of_the_manifest(tmp_path, monkeypatch):
    class Opened:
        class manifest:  # noqa: N801
            score_names = ("ctr", "cvr")

    asked = []
    monkeypatch.setattr(ModelRepository, "open", lambda _, reference: asked.append(reference) or Opened)
    assert PublishedModels(ModelRepository(tmp_path)).score_names(ModelReference("din", 3)) == ("ctr", "cvr")
    assert asked == [ModelReference("din", 3)]
