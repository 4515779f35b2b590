"""The simulator: the same for a seed, true to its probabilities, and such that recent history tells something."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.tables import read_tables
from feature_store.views import load_views
from models.datasets.simulated import SimulationConfig, SimulationError, simulate, write_simulated
from models.training.rows import build_training_data

TINY = SimulationConfig(users=20, items=40, requests=60, seed=3)
MIDDLE = SimulationConfig(users=400, items=300, requests=6_000, seed=11)


@pytest.fixture(scope="module")
def middle():
    return simulate(MIDDLE)


def frames(tables):
    return tables.interactions, tables.users, tables.items


def test_a_seed_always_gives_the_same_data():
    for first, second in zip(frames(simulate(TINY)), frames(simulate(TINY)), strict=True):
        assert_frame_equal(first, second, check_exact=True)


def test_another_seed_gives_other_data():
    other = SimulationConfig(users=20, items=40, requests=60, seed=4)
    for first, second in zip(frames(simulate(TINY)), frames(simulate(other)), strict=True):
        assert not first.equals(second)


def test_requests_are_lists_of_distinct_items_of_one_user_at_one_moment(middle):
    requests = middle.interactions.group_by("request_id").agg(
        pl.len().alias("shown"),
        *(pl.col(name).n_unique().alias(name) for name in ("item_id", "user_id", "time", "hour", "device")),
        pl.col("position").sort().alias("positions"),
    )
    assert requests["shown"].is_between(8, 10).all()
    assert (requests["item_id"] == requests["shown"]).all()
    for name in ("user_id", "time", "hour", "device"):
        assert (requests[name] == 1).all()
    assert all(row["positions"] == list(range(1, row["shown"] + 1)) for row in requests.iter_rows(named=True))
    assert requests.height == MIDDLE.requests


def test_the_log_is_in_order_of_time(middle):
    assert middle.interactions["time"].is_sorted()
    hours = pl.from_epoch(middle.interactions["time"].cast(pl.Int64)).dt.hour()
    assert (hours.cast(pl.Int64) == middle.interactions["hour"]).all()


def test_every_key_of_the_log_has_its_row(middle):
    for key, entity in (("user_id", middle.users), ("item_id", middle.items)):
        assert entity[key].is_unique().all()
        assert middle.interactions[key].is_in(entity[key].to_list()).all()


def test_true_probabilities_are_calibrated(middle):
    log = middle.interactions.with_columns(bought=pl.col("true_ctr") * pl.col("true_cvr"))
    for truth, outcome in (("true_ctr", "click"), ("bought", "conversion")):
        deciles = log.with_columns(bin=pl.col(truth).rank("ordinal") * 10 // (pl.len() + 1)).group_by("bin")
        measured = deciles.agg(pl.col(truth).mean(), pl.col(outcome).mean().alias("rate"), pl.len())
        error = (measured["rate"] - measured[truth]).abs()
        deviation = (measured[truth] * (1 - measured[truth]) / measured["len"]).sqrt()
        assert (error < 4 * deviation).all()


def test_only_clicks_convert(middle):
    assert middle.interactions.filter(pl.col("conversion") > pl.col("click")).is_empty()


def test_lower_positions_are_examined_less(middle):
    rates = middle.interactions.group_by("position").agg(pl.col("click").mean()).sort("position")["click"]
    assert rates[0] > 1.4 * rates[9]


def test_recent_clicks_on_a_category_tell_more_than_old_ones(middle):
    log = middle.interactions.join(middle.items.select("item_id", "category"), on="item_id")
    turns = log.select("user_id", "request_id", "time").unique().sort("time")
    turns = turns.with_columns(turn=pl.int_range(pl.len()).over("user_id")).drop("time", "user_id")
    log = log.join(turns, on="request_id")
    clicks = log.filter(pl.col("click") == 1).select("user_id", "category", before="turn").unique()
    pairs = log.join(clicks, on=["user_id", "category"]).with_columns(gap=pl.col("turn") - pl.col("before"))
    rate = {gap: pairs.filter(pl.col("gap").is_between(*gap))["click"].mean() for gap in ((1, 1), (3, 4), (8, 12))}
    assert rate[1, 1] > rate[3, 4] > rate[8, 12] > log["click"].mean()


def test_the_written_data_set_goes_through_the_door_and_hides_the_truth(tmp_path):
    path = write_simulated(MIDDLE, tmp_path)
    views = load_views(path)
    data = build_training_data(views, read_tables(views, tmp_path))
    assert [len(part) for part in (data.train, data.valid, data.test)] == pytest.approx([43_200, 5_400, 5_400], rel=0.02)
    names = {field.name for block in data.inputs.views.values() for field in block.categories}
    names |= {name for block in data.inputs.views.values() for name in block.numbers}
    assert "position" in names
    assert not {name for name in names if "true" in name}
    assert [label.name for label in views.labels] == ["ctr", "conversion"]


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"users": 0}, "users must be at least 1"),
        ({"items": 19}, "items must be at least 20"),
        ({"requests": -1}, "requests must be at least 1"),
        ({"seed": -1}, "seed must be between"),
        ({"drift": 1.5}, "drift must be between 0 and 1"),
    ],
)
def test_a_size_that_cannot_be_is_refused(sizes, reason):
    with pytest.raises(SimulationError, match=reason):
        SimulationConfig(**sizes)


@pytest.mark.parametrize(
    "sizes", [{"users": 1, "items": 20, "requests": 1}, {"users": 5, "items": 2, "requests": 3, "topics": 2}]
)
def test_the_smallest_sizes_work(sizes):
    assert simulate(SimulationConfig(**sizes)).interactions.height > 0
