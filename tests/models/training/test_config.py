"""A run's YAML means what it says, or is refused with the key that is wrong."""

from __future__ import annotations

import pytest

from feature_store.views import FeatureViews, ViewsError
from models.training.config import RunConfig, RunConfigError, read_run_config
from models.zoo.din import DINOptions


def written(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_a_recipe_is_read_with_defaults_for_what_it_leaves_out(tmp_path):
    config = read_run_config(
        written(tmp_path, "network: din\nepochs: 3\nlearning_rate: 2e-3\noptions:\n  attention_hidden: [36]\n  weights: raw\n")
    )
    assert config.epochs == 3
    assert config.learning_rate == 0.002
    assert config.network_options() == DINOptions(attention_hidden=(36,), weights="raw")


def test_options_of_a_field_are_kept(tmp_path):
    text = "network: mean_pooling\noptions: {embedding_size: fourth_root, embedding_factor: 15, embedding_sizes: {city: 4}}\n"
    options = read_run_config(written(tmp_path, text)).network_options()
    assert (options.embedding_size, options.embedding_factor, options.embedding_sizes) == ("fourth_root", 15.0, {"city": 4})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("network: din\nepocs: 3\n", "epocs"),
        ("network: din\nepochs: '3'\n", "epochs"),
        ("network: din\nepochs: 0\n", "epochs"),
        ("network: din\nepochs: yes\n", "epochs"),
        ("network: din\nlearning_rate: 0\n", "learning_rate"),
        ("network: din\nmonitor: loss\n", "monitor"),
        ("network: dim\n", "no network 'dim'; there are deepfm, din, mean_pooling"),
        (
            "network: deepfm\noptions: {attention_hidden: [3]}\n",
            "deepfm has no option 'attention_hidden'; it has embedding_size",
        ),
        ("network: din\noptions: {dropout: 1.0}\n", "dropout must be at least 0 and below 1, not 1.0"),
        ("network: din\noptions: {dropout: a}\n", "options.dropout"),
        ("network: din\noptions: {hidden: []}\n", "hidden needs at least one width"),
        ("network: din\noptions: {hidden: [8, 0]}\n", "hidden needs at least one width"),
        ("network: din\noptions: {hidden: 8}\n", "options.hidden"),
        ("network: din\noptions: {attention_hidden: []}\n", "attention_hidden needs"),
        ("network: din\noptions: {weights: sum}\n", "options.weights"),
        ("network: din\noptions: {embedding_size: third_root}\n", "options.embedding_size"),
        ("network: din\noptions: {embedding_size: 0}\n", "embedding_size must be above 0"),
        ("network: din\noptions: {embedding_sizes: {city: 0}}\n", "embedding_sizes.city must be above 0"),
        ("network: din\noptions: {activation: gelu}\n", "options.activation"),
        ("network: din\noptions: [1]\n", "options"),
        ("network: din\nnetwork: din\n", "stands twice"),
        ("- din\n", "mapping"),
    ],
)
def test_a_mistake_is_refused_with_its_file_and_key(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises(RunConfigError) as refused:
        read_run_config(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunConfigError, match=r"none\.yaml: No such file"):
        read_run_config(tmp_path / "none.yaml")


def test_all_problems_are_listed_at_once(tmp_path):
    with pytest.raises(RunConfigError) as refused:
        read_run_config(written(tmp_path, "network: din\nepochs: 0\npatience: 0\n"))
    assert len(str(refused.value).splitlines()) == 2


def views_with(*labels):
    return FeatureViews.model_validate(
        {
            "name": "shop",
            "tables": {"interactions": "i.csv", "users": "u.csv", "items": "t.csv"},
            "interactions": {"time": "at"},
            "user": {"key": "user"},
            "item": {"key": "item", "fields": [{"name": "item", "kind": "category"}]},
            "labels": [{"name": name, "column": name} for name in labels],
        }
    )


def test_the_first_label_is_learned_unless_one_is_named():
    views = views_with("click", "buy")
    assert RunConfig(network="din").label_of(views) == "click"
    assert RunConfig(network="din", label="buy").label_of(views) == "buy"


def test_a_label_that_the_views_lack_is_named():
    with pytest.raises(ViewsError, match="no label 'like'; there are click, buy"):
        RunConfig(network="din", label="like").label_of(views_with("click", "buy"))
