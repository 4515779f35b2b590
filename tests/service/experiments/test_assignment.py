"""From a unit to its arms and params: traffic, arms, layers, overrides."""

from __future__ import annotations

import hashlib
import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.experiments.assignment import Assigned, Assignment, OverrideInvalidError, PreparedPlan, assign
from service.experiments.errors import UnitIdInvalidError
from service.experiments.params import Params
from service.experiments.plan import parse_plan
from tests.service.experiments.plans import FULL_PLAN, PLAIN_SPLIT, as_yaml, plan_for

PLAN = parse_plan(FULL_PLAN, None)


def _md5_bucket(unit, salt, num_buckets):
    hashed = f"{salt}:{unit}" if salt else unit
    return int(hashlib.md5(hashed.encode()).hexdigest(), 16) % num_buckets


def _first_unit(condition):
    return next(unit for unit in range(1_000_000) if condition(str(unit)))


def test_a_unit_in_the_traffic_gets_the_arm_that_holds_its_bucket():
    unit = _first_unit(
        lambda text: (
            _md5_bucket(text, "ranking-layer", 10_000) < 5000 and _md5_bucket(text, "experiment:din-vs-deepfm", 10_000) >= 5000
        )
    )
    assigned = assign(PLAN, unit)
    bucket = _md5_bucket(unit_text := str(unit), "experiment:din-vs-deepfm", 10_000)
    layer_bucket = _md5_bucket(unit_text, "ranking-layer", 10_000)
    assert assigned.assignments[0] == Assignment("ranking", "din-vs-deepfm", "treatment", bucket, layer_bucket, forced=False)
    assert (assigned.params.model, assigned.params.top_k) == ("din@3", 20)


def test_a_unit_outside_all_traffic_of_a_layer_has_no_assignment_there_and_the_defaults():
    unit = _first_unit(
        lambda text: (
            _md5_bucket(text, "ranking-layer", 10_000) >= 6000 and 1000 <= _md5_bucket(text, "layer:objective", 10_000) < 9000
        )
    )
    assert assign(PLAN, unit) == Assigned(Params("din@latest", top_k=100), ())


def test_a_plan_without_layers_gives_everyone_the_defaults():
    assert assign(parse_plan(plan_for("din@3"), None), "anyone") == Assigned(Params("din@3"), ())


def test_an_integer_id_and_its_text_get_the_same_arms():
    assert all(assign(PLAN, unit) == assign(PLAN, str(unit)) for unit in range(500))


@pytest.mark.parametrize("unit_id", ["", True, None, 1.5, "\ud800"])
def test_an_id_that_cannot_be_hashed_is_refused(unit_id):
    with pytest.raises(UnitIdInvalidError):
        assign(PLAN, unit_id)


def test_an_empty_id_is_refused_even_where_no_experiment_would_hash_it():
    with pytest.raises(UnitIdInvalidError):
        assign(parse_plan(plan_for("din@3"), None), "")


def test_the_plain_plan_is_exactly_the_split_that_teams_run():
    plain = parse_plan(PLAIN_SPLIT, None)
    for user_id in [*range(5_000), "用户", "user@example.com", "é", -7]:
        treated = int(hashlib.md5(str(user_id).encode()).hexdigest(), 16) % 100 < 10
        assigned = assign(plain, user_id)
        assert assigned.assignments[0].arm == ("treatment" if treated else "control")
        assert assigned.params.model == ("din@latest" if treated else "deepfm@latest")


def test_every_edge_of_a_range_is_half_open():
    units = {_md5_bucket(str(unit), "ranking-layer", 10_000): unit for unit in range(200_000)}
    names = {
        bucket: [a.experiment for a in assign(PLAN, units[bucket]).assignments] for bucket in (0, 4999, 5000, 5999, 6000, 9999)
    }
    assert "din-vs-deepfm" in names[0]
    assert "din-vs-deepfm" in names[4999]
    assert "longer-history" in names[5000]
    assert "longer-history" in names[5999]
    assert not {"din-vs-deepfm", "longer-history"} & {*names[6000], *names[9999]}


# --- overrides


def test_an_override_wins_over_traffic_and_excludes_the_layers_other_experiments():
    for unit in range(200):
        natural = assign(PLAN, unit)
        forced = assign(PLAN, unit, {"longer-history": "long"})
        taken = forced.assignments[0]
        assert (taken.layer, taken.experiment, taken.arm, taken.forced) == ("ranking", "longer-history", "long", True)
        assert forced.params.model == "din-long@1"
        assert [each for each in natural.assignments if each.layer == "objective"] == list(forced.assignments[1:])


def test_a_forced_assignment_still_tells_the_units_own_buckets():
    taken = assign(PLAN, "42", {"by-cvr": "cvr"}).assignments[-1]
    assert taken.bucket == _md5_bucket("42", "experiment:by-cvr", 10_000)
    assert taken.layer_bucket == _md5_bucket("42", "layer:objective", 10_000)


def test_overrides_reach_an_experiment_and_an_arm_without_traffic():
    text = FULL_PLAN.replace("traffic: [5000, 6000]", "traffic: []")
    assert assign(parse_plan(text, None), "42", {"longer-history": "short"}).assignments[0].arm == "short"


@pytest.mark.parametrize(
    ("overrides", "problems"),
    [
        ({"nope": "x"}, ["no experiment of that name; the plan has by-cvr, din-vs-deepfm, longer-history"]),
        ({"by-cvr": "x"}, ["experiment by-cvr has no arm of that name; it has ctr, cvr"]),
        (
            {"din-vs-deepfm": "control", "longer-history": "long"},
            ["experiments din-vs-deepfm and longer-history are in layer ranking and exclude each other"],
        ),
        ({"<script>": "\x1b[31m", "by-cvr": "\r\n"}, None),
    ],
)
def test_overrides_that_cannot_be_followed_are_refused_without_repeating_them(overrides, problems):
    with pytest.raises(OverrideInvalidError) as caught:
        assign(PLAN, "42", overrides)
    assert problems is None or list(caught.value.problems) == problems
    assert str(caught.value).isprintable()
    assert "script" not in str(caught.value)


def _many_experiments(count):
    experiments = [{"name": f"e{n:03}", "traffic": [], "arms": [{"name": "a", "weight": 100}]} for n in range(count)]
    layers = [{"name": "l", "experiments": experiments}]
    return parse_plan(as_yaml({"version": 1, "defaults": {"model": "din@1"}, "layers": layers}), None)


def test_all_problems_of_overrides_are_listed():
    with pytest.raises(OverrideInvalidError) as caught:
        assign(_many_experiments(2), "42", {"x": "y", "e000": "z", "e001": "a"})
    assert caught.value.problems == (
        "no experiment of that name; the plan has e000, e001",
        "experiment e000 has no arm of that name; it has a",
        "experiments e000 and e001 are in layer l and exclude each other",
    )


@pytest.mark.parametrize(("count", "end"), [(0, "has none"), (20, ", e019"), (21, ", e019 and 1 more")])
def test_the_names_that_are_listed_are_bounded(count, end):
    with pytest.raises(OverrideInvalidError) as caught:
        assign(_many_experiments(count), "42", {"x": "y"})
    assert str(caught.value).endswith(end)


# --- against a slow reference

PARAMS = {
    "model": st.sampled_from(["a@1", "b@2", "c@latest"]),
    "top_k": st.integers(1, 5000),
    "score": st.sampled_from(["x", "y"]),
}
DEFAULTS = {"model": "default@1", "top_k": 7, "score": "z"}


def _runs(owner_of_bucket, owner):
    """The half-open runs of buckets that an owner holds."""
    runs = []
    for bucket, holder in enumerate(owner_of_bucket):
        if holder != owner:
            continue
        if runs and runs[-1][1] == bucket:
            runs[-1][1] = bucket + 1
        else:
            runs.append([bucket, bucket + 1])
    return runs


@st.composite
def _experiments(draw, name, param):
    num_buckets = draw(st.integers(2, 12))
    arms = draw(st.integers(1, 4))
    held = draw(st.lists(st.integers(0, arms - 1), min_size=num_buckets, max_size=num_buckets))
    written = []
    for arm in range(arms):
        params = {param: draw(PARAMS[param])} if draw(st.booleans()) else {}
        written.append({"name": f"arm{arm}", "buckets": _runs(held, arm), "params": params})
    return {"name": name, "num_buckets": num_buckets, "arms": written}


@st.composite
def plans(draw):
    """Plans of up to three layers, each owning one param, with every kind of hole, split range and empty arm."""
    layers = []
    for param in draw(st.lists(st.sampled_from(sorted(PARAMS)), unique=True, max_size=3)):
        num_buckets = draw(st.integers(2, 12))
        count = draw(st.integers(0, 3))
        held = draw(st.lists(st.integers(-1, count - 1), min_size=num_buckets, max_size=num_buckets)) if count else []
        experiments = [draw(_experiments(f"{param}-{number}".replace("_", "-"), param)) for number in range(count)]
        for number, experiment in enumerate(experiments):
            experiment["traffic"] = _runs(held, number)
        salts = {"salt": draw(st.text(alphabet="ab:é", max_size=3)) + param} if draw(st.booleans()) else {}
        layers.append({"name": param, "num_buckets": num_buckets, "owns": [param], "experiments": experiments, **salts})
    return {"version": 1, "defaults": DEFAULTS, "layers": layers}


def _holds(pairs, bucket):
    return any(start <= bucket < end for start, end in pairs)


def _slow_assign(plan, unit):
    """The plan's meaning, read straight from the YAML's values."""
    params, assignments = dict(plan["defaults"]), []
    for layer in plan["layers"]:
        layer_bucket = _md5_bucket(unit, layer.get("salt", f"layer:{layer['name']}"), layer["num_buckets"])
        for experiment, arm in ((e, a) for e in layer["experiments"] for a in e["arms"]):
            bucket = _md5_bucket(unit, f"experiment:{experiment['name']}", experiment["num_buckets"])
            if _holds(experiment["traffic"], layer_bucket) and _holds(arm["buckets"], bucket):
                params.update(arm["params"])
                assignments.append(
                    Assignment(layer["name"], experiment["name"], arm["name"], bucket, layer_bucket, forced=False)
                )
    return Assigned(Params(**params), tuple(assignments))


@settings(max_examples=60, deadline=None)
@given(plan=plans())
def test_assignment_agrees_with_a_slow_reading_of_the_plan(plan):
    parsed = parse_plan(as_yaml(plan), None)
    for unit in map(str, range(60)):
        assert assign(parsed, unit) == _slow_assign(plan, unit)


@settings(max_examples=60, deadline=None)
@given(plan=plans())
def test_every_bucket_of_every_draw_has_the_owner_that_the_plan_writes(plan):
    parsed = parse_plan(as_yaml(plan), None)
    for layer, written in zip(parsed.layers, plan["layers"], strict=True):
        for bucket in range(layer.num_buckets):
            owner = layer.experiment_by_bucket.owner_of(bucket)
            expected = [e["name"] for e in written["experiments"] if _holds(e["traffic"], bucket)]
            assert ([] if owner is None else [owner.name]) == expected
        for experiment, texts in zip(layer.experiments, written["experiments"], strict=True):
            for bucket, arm in product(range(experiment.num_buckets), texts["arms"]):
                assert (experiment.arm_by_bucket.owner_of(bucket).name == arm["name"]) == _holds(arm["buckets"], bucket)


@pytest.mark.parametrize("text", [FULL_PLAN, PLAIN_SPLIT, plan_for("din@3")])
def test_a_prepared_plan_gives_what_the_plain_way_gives(text):
    plan = parse_plan(text, None)
    prepared = PreparedPlan(plan)
    units = [*range(-50, 2_000), *(f"user:{number}" for number in range(500)), "\u00e9", " ", "x" * 10_000]
    assert [prepared.assign(unit) for unit in units] == [assign(plan, unit) for unit in units]


@given(st.text(min_size=1) | st.integers())
def test_a_prepared_plan_agrees_about_any_unit_it_can_hash(unit):
    try:
        expected = assign(PLAN, unit)
    except UnitIdInvalidError as refused:
        with pytest.raises(UnitIdInvalidError, match=re.escape(str(refused))):
            PreparedPlan(PLAN).assign(unit)
    else:
        assert PreparedPlan(PLAN).assign(unit) == expected


@pytest.mark.parametrize("unit_id", ["", True, None, 1.5, "\ud800"])
def test_a_prepared_plan_refuses_the_same_units(unit_id):
    with pytest.raises(UnitIdInvalidError):
        PreparedPlan(PLAN).assign(unit_id)


def test_a_prepared_plan_takes_overrides():
    forced = {"din-vs-deepfm": "treatment"}
    assert PreparedPlan(PLAN).assign("u", forced) == assign(PLAN, "u", forced)
    with pytest.raises(OverrideInvalidError):
        PreparedPlan(PLAN).assign("u", {"nothing": "arm"})
