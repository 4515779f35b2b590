"""``python -m models train`` and ``export``, as a person types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.__main__ import main

RECIPE = "network: deepfm\nepochs: 1\nbatch_rows: 128\noptions: {embedding_size: 4, hidden: [8]}\n"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_train_prints_metrics_and_ends_with_the_runs_path(tiny_shop, recipe, tmp_path, capsys):
    assert (
        main(
            ["train", str(tiny_shop), "--config", str(recipe), "--epochs", "2", "--seed", "5", "--out", str(tmp_path / "runs")]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["metric", "valid", "test"]
    assert any(line.startswith("auc ") for line in lines)
    root = Path(lines[-1].removeprefix("run: "))
    assert root.parent == tmp_path / "runs"
    assert '"epochs": 2' in (root / "config.json").read_text()
    assert '"seed": 5' in (root / "config.json").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a network with --network, or a recipe with --config"),
        (["--network", "din", "--label", "like"], "no label 'like'; there are click, buy"),
        (["--network", "din", "--epochs", "0"], "command line: epochs: Input should be greater than or equal to 1"),
        (["--config", "{tmp}/recipe.yaml", "--network", "din"], "network: is 'deepfm', but --network says 'din'"),
        (["--config", "{tmp}/none.yaml"], "none.yaml: No such file"),
        (["--config", "{tmp}/list.yaml"], "a mapping of keys to values is needed"),
    ],
)
def test_train_refuses_with_a_reason_and_leaves_nothing(tiny_shop, tmp_path, capsys, words, said):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "list.yaml").write_text("- din\n")
    filled = [word.format(tmp=tmp_path) for word in words]
    assert main(["train", str(tiny_shop), *filled, "--out", str(tmp_path / "runs")]) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert not (tmp_path / "runs").exists()


def test_train_refuses_views_that_are_not_there_and_a_folder_it_cannot_make(tiny_shop, recipe, tmp_path, capsys):
    assert main(["train", str(tmp_path / "no.yaml"), "--network", "din", "--out", str(tmp_path)]) == 1
    assert "no.yaml: No such file" in capsys.readouterr().err
    assert main(["train", str(tiny_shop), "--config", str(recipe), "--out", str(recipe)]) == 1
    assert f"{recipe}/tiny-shop-deepfm" in capsys.readouterr().err


def test_resume_takes_no_recipe_and_only_unfinished_runs(tiny_shop, trained, tmp_path, capsys):
    root = str(trained("din").directory.root)
    assert main(["train", str(tiny_shop), "--resume", root, "--epochs", "9"]) == 1
    assert "keeps the run's own recipe" in capsys.readouterr().err
    assert main(["train", str(tiny_shop), "--resume", root]) == 1
    assert "this run has finished" in capsys.readouterr().err
    assert main(["train", str(tiny_shop), "--resume", str(tmp_path)]) == 1
    assert "not a training run's directory" in capsys.readouterr().err


def test_export_refuses_with_a_reason(trained, tmp_path, capsys):
    root = str(trained("din").directory.root)
    assert main(["export", str(tmp_path), "--repository", str(tmp_path / "repository")]) == 1
    assert "not a training run's directory" in capsys.readouterr().err
    assert main(["export", root, "--repository", str(tmp_path), "--name", "Up"]) == 1
    assert "a model reference is name@version" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["export", root, "--repository", str(tmp_path / "file")]) == 1
    assert "file" in capsys.readouterr().err
