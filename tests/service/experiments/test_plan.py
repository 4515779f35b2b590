"""Good plans: what the text says is what the hot path reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.experiments.params import ArmParamsSchema, Params
from service.experiments.plan import ExperimentPlan, parse_plan
from service.experiments.plan_description import describe_plan
from service.experiments.ranges import BucketRange
from tests.service.experiments.plans import FULL_PLAN, PLAIN_SPLIT, all_published, plan_for


def _only_experiment(text):
    return next(parse_plan(text, None).experiments)


def _with_arms(arms, num_buckets=10_000):
    return f"""\
version: 1
defaults: {{model: din@1}}
layers:
  - name: layer
    owns: [model]
    experiments: [{{name: test, num_buckets: {num_buckets}, traffic: [0, 10000], arms: {arms}}}]
"""


def test_a_full_plan_is_read_as_written():
    plan = parse_plan(FULL_PLAN, all_published())
    ranking, objective = plan.layers
    versus, longer = ranking.experiments
    assert plan.defaults == Params("din@latest", top_k=100, score=None)
    assert (ranking.name, ranking.salt, ranking.owns) == ("ranking", "ranking-layer", ("model", "top_k"))
    assert (versus.control, longer.control) == ("control", "short")
    assert versus.traffic == (BucketRange(0, 5000),)
    assert longer.traffic == (BucketRange(5000, 6000),)
    assert [arm.changes for arm in versus.arms] == [
        (("model", "deepfm@latest"),),
        (("model", "din@3"), ("top_k", 20)),
    ]
    assert objective.experiments[0].traffic == (BucketRange(0, 1000), BucketRange(9000, 10_000))


def test_salts_and_bucket_counts_have_documented_defaults():
    objective = parse_plan(FULL_PLAN, None).layers[1]
    experiment = objective.experiments[0]
    assert (objective.salt, objective.num_buckets) == ("layer:objective", 10_000)
    assert (experiment.salt, experiment.num_buckets) == ("experiment:by-cvr", 10_000)


def test_an_empty_salt_is_kept_empty():
    plan = parse_plan(PLAIN_SPLIT, None)
    assert (plan.layers[0].salt, plan.layers[0].experiments[0].salt) == ("", "")


def test_weights_become_ranges_that_follow_each_other():
    arms = "[{name: a, weight: 33.3}, {name: b, weight: 0}, {name: c, weight: 66.6}, {name: d, weight: 0.1}]"
    ranges = [arm.buckets for arm in _only_experiment(_with_arms(arms)).arms]
    assert ranges == [(BucketRange(0, 3330),), (), (BucketRange(3330, 9990),), (BucketRange(9990, 10_000),)]


def test_weights_are_summed_as_the_decimals_they_were_written_as():
    weights = [33.1, 33.2, 33.7]
    assert sum(weights) != 100, "as doubles they miss it"
    arms = "[" + ", ".join(f"{{name: a{place}, weight: {weight}}}" for place, weight in enumerate(weights)) + "]"
    assert len(_only_experiment(_with_arms(arms)).arms) == 3


def test_one_arm_may_hold_several_ranges_in_any_order():
    arms = "[{name: a, buckets: [[6, 10], [0, 3]]}, {name: b, buckets: [3, 6]}]"
    first, second = _only_experiment(_with_arms(arms, num_buckets=10)).arms
    assert first.buckets == (BucketRange(0, 3), BucketRange(6, 10))
    assert second.buckets == (BucketRange(3, 6),)


def test_an_arm_and_an_experiment_may_hold_nothing_yet():
    text = _with_arms("[{name: a, buckets: []}, {name: b, buckets: [0, 10000]}]").replace("traffic: [0, 10000]", "traffic: []")
    experiment = _only_experiment(text)
    assert (experiment.traffic, experiment.arms[0].buckets) == ((), ())


def test_a_plan_may_have_defaults_only():
    assert parse_plan(plan_for("din@3"), None) == ExperimentPlan(Params("din@3"))


def test_the_models_of_a_plan_are_the_default_and_every_arms_each_once():
    assert parse_plan(FULL_PLAN, None).models == ("din@latest", "deepfm@latest", "din@3", "din-long@1")


def test_each_model_is_asked_for_once():
    published = all_published()
    parse_plan(FULL_PLAN.replace("deepfm@latest", "din@latest"), published)
    assert published.asked == ["din@latest", "din@3", "din-long@1"]


def test_bytes_with_a_byte_order_mark_are_read_like_text():
    assert parse_plan(FULL_PLAN.encode("utf-8-sig"), None) == parse_plan(FULL_PLAN, None)


def test_the_description_writes_out_salts_and_shares():
    layer = describe_plan(parse_plan(FULL_PLAN, None))["layers"][0]
    versus, longer = layer["experiments"]
    assert (versus["salt"], versus["traffic"], versus["traffic_share"]) == ("experiment:din-vs-deepfm", [[0, 5000]], 0.5)
    assert [(arm["name"], arm["share"]) for arm in versus["arms"]] == [("control", 0.25), ("treatment", 0.25)]
    assert longer["arms"][0]["share"] == pytest.approx(0.0125)


def test_the_schema_and_the_params_name_the_same_things():
    assert list(ArmParamsSchema.model_fields) == list(Params.__dataclass_fields__)


def test_the_plans_in_the_documentation_are_valid():
    page = (Path(__file__).parents[3] / "docs" / "experiments.md").read_text(encoding="utf-8")
    written = [block for block in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL) if block.startswith("version:")]
    first, plain = (parse_plan(text, None) for text in written)
    assert next(first.experiments).name == "din-vs-deepfm"
    assert plain == parse_plan(PLAIN_SPLIT, None)
