"""What benchmarks rely on: sizes, full histories, known items, whole versions, plans that change nothing, ids of the wire."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.views import CategoryField, load_views
from models.__main__ import main
from models.bench_world.publish import NAMES
from models.bench_world.tables import BenchWorldConfig, BenchWorldError, draw_tables
from models.bench_world.views import CONTEXT_FIELDS, ITEM_FIELDS, USER_FIELDS
from models.repository import ModelReference, ModelRepository
from service.experiments.assignment import assign
from service.experiments.params import Params
from service.experiments.plan import ExperimentPlan, parse_plan
from tests.models.bench_world.conftest import CONFIG


def frames(tables):
    return tables.interactions, tables.users, tables.items


def test_the_views_have_sixteen_single_valued_fields_and_a_history_of_fifty(world):
    views = load_views(world / "views.yaml")
    fields = [*views.user.fields, *views.item.fields, *views.request_fields]
    assert [len(part) for part in (views.user.fields, views.item.fields, views.request_fields)] == [8, 6, 2]
    assert all(isinstance(field, CategoryField) for field in fields)
    assert (views.candidate_fields, views.history.length, views.events is not None) == ((), 50, True)


def test_every_user_has_a_full_history_before_the_held_out_rows_and_after_all(world, data):
    clicks = pl.read_parquet(world / "interactions.parquet").filter(pl.col("click") == 1)
    assert (clicks["user_id"].value_counts()["count"] >= 50).all()
    assert clicks["user_id"].n_unique() == CONFIG.users
    for part in (data.valid, data.test):
        assert (part.batch(np.arange(len(part)))["history"] > 1).all()
        assert len(part) == CONFIG.users


def test_no_two_events_of_a_user_are_at_one_moment(world):
    rows = pl.read_parquet(world / "interactions.parquet")
    assert not rows.select("user_id", "time").is_duplicated().any()


@pytest.mark.parametrize(("users", "items"), [(12, 300), (12, 696), (2, 1)])
def test_every_item_stands_in_a_row_to_learn_from(users, items):
    tables = draw_tables(BenchWorldConfig(users=users, items=items))
    per_user = tables.interactions.height // users
    learned = tables.interactions.head((per_user - 2) * users)
    assert learned["item_id"].n_unique() == items
    assert set(learned["user_id"].value_counts()["count"]) == {per_user - 2}


def test_every_item_has_an_id_of_its_own_in_the_encoder(world, data):
    items = json.loads((world / "ids.json").read_text())["items"]
    assert sorted(data.encoder.item_key_column.ids.terms) == sorted(map(str, items))


def test_fields_have_as_many_values_as_they_say():
    tables = draw_tables(BenchWorldConfig(users=5_000, items=20_000))
    for frame, fields in ((tables.users, USER_FIELDS), (tables.items, ITEM_FIELDS), (tables.interactions, CONTEXT_FIELDS)):
        assert {name: frame[name].n_unique() for name in fields} == fields


def test_a_seed_always_gives_the_same_tables_and_another_gives_others():
    again = BenchWorldConfig(users=CONFIG.users, items=CONFIG.items, seed=CONFIG.seed)
    other = BenchWorldConfig(users=CONFIG.users, items=CONFIG.items, seed=CONFIG.seed + 1)
    for mine, same, different in zip(*(frames(draw_tables(config)) for config in (CONFIG, again, other)), strict=True):
        assert_frame_equal(mine, same, check_exact=True)
        assert not mine.equals(different)


def test_ids_are_the_integers_of_the_tables(world):
    ids = json.loads((world / "ids.json").read_text())
    assert ids == {
        "users": pl.read_parquet(world / "users.parquet")["user_id"].to_list(),
        "items": pl.read_parquet(world / "items.parquet")["item_id"].to_list(),
    }
    assert (len(set(ids["users"])), len(set(ids["items"]))) == (CONFIG.users, CONFIG.items)


@pytest.mark.parametrize("name", NAMES)
def test_a_published_version_is_whole(world, name):
    version = ModelRepository(world / "models").open(ModelReference(name, None))
    version.check_files()
    manifest = version.manifest
    needed = {"model.onnx", "golden.npz", "golden_requests.json", "encoder.json", "views.yaml"}
    assert needed <= {file.name for file in manifest.files}
    assert (manifest.version, manifest.history_length, manifest.uses_history) == (1, 50, name == "din")
    assert (manifest.training.run_id, manifest.training.network, manifest.training.metrics) == ("bench-world", name, {})
    inputs = {each.name: (each.axis, each.width) for each in manifest.inputs}
    fields = {"user_categories": ("users", 8), "context_categories": ("users", 2), "item_categories": ("rows", 6)}
    history = {"history": ("users", 50)} if name == "din" else {}
    assert inputs == {**fields, **history, "row_user": ("rows", None)}


class Known:
    """The world's models, as a plan's checks ask for them."""

    def score_names(self, reference):
        assert reference.name in NAMES
        return ("click",)


def read_plan(world, name):
    return parse_plan((world / f"plan-{name}.yaml").read_text(), Known())


@pytest.mark.parametrize("name", NAMES)
def test_a_models_plan_gives_it_to_everybody(world, name):
    assert read_plan(world, name) == ExperimentPlan(Params(f"{name}@latest"))


def test_the_plan_of_experiments_puts_all_users_in_one_arm_of_each_layer_and_changes_nothing(world):
    plan, seen = read_plan(world, "ab"), Counter()
    assert [len(layer.experiments) for layer in plan.layers] == [2, 2, 2]
    for user in range(500):
        assigned = assign(plan, str(user), {})
        assert assigned.params == Params("deepfm@latest", top_k=5_000, score="click")
        seen.update((each.layer, each.experiment, each.arm) for each in assigned.assignments)
    assert len(seen) == 12
    assert sum(seen.values()) == 3 * 500


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"users": 1}, "users must be between 2 and"),
        ({"users": 1_000_001}, "users must be between 2 and"),
        ({"users": 12, "items": 697}, "items must be between 1 and 696"),
        ({"items": 0}, "items must be between 1 and"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 1 << 32}, "seed must be"),
    ],
)
def test_sizes_that_no_world_can_have_are_refused(sizes, said):
    with pytest.raises(BenchWorldError, match=said):
        BenchWorldConfig(**sizes)


def test_what_stands_in_the_folder_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "mine").write_text("kept")
    assert main(["bench-world", "--out", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_is_told_in_a_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["bench-world", "--out", str(tmp_path / "file" / "world"), "--users", "2", "--items", "5"]) == 1
    assert "Not a directory" in capsys.readouterr().err
