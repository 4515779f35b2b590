"""Bad plans: every reason is said, with its key, and none that merely follows from another."""

from __future__ import annotations

import pytest

from feature_store.strict_yaml import MAX_BYTES
from service.experiments.errors import PlanInvalidError
from service.experiments.plan import parse_plan
from service.experiments.sound_node import printable
from tests.service.experiments.plans import FULL_PLAN, PLAIN_SPLIT, Published, all_published, as_yaml

VERSUS = "layers.0.experiments.0"
LONGER = "layers.0.experiments.1"
CVR = "layers.1.experiments.0"


def _problems(text, known=None):
    with pytest.raises(PlanInvalidError) as caught:
        parse_plan(text, known)
    return list(caught.value.problems)


def _problems_if_refused(text, known=None):
    try:
        parse_plan(text, known)
    except PlanInvalidError as error:
        return list(error.problems)
    return None


def _edited(old, new):
    assert FULL_PLAN.count(old) == 1, f"{old!r} must stand once in the plan"
    return FULL_PLAN.replace(old, new)


# (what is written, what it is replaced by, the one problem's beginning)
ONE_MISTAKE = [
    ("version: 1\n", "", "version: Field required"),
    ("version: 1\n", "version: 2\n", "version: Input should be less than or equal to 1"),
    ("version: 1\n", "version: true\n", "version: Input should be a valid integer"),
    ("version: 1\n", "version: 1.0\n", "version: Input should be a valid integer"),
    ("version: 1\n", "version: 1\nsurprise: 1\n", "surprise: unknown key"),
    ("version: 1\n", 'version: 1\n"a\\e[31m\\n": 1\n', r"a\x1b[31m\n: unknown key"),
    ("version: 1\n", "version: 1\n5: 1\n", "5: Keys should be strings"),
    ("defaults: {model: din@latest, top_k: 100}\n", "", "defaults: Field required"),
    ("{model: din@latest, top_k: 100}", "din@latest", "defaults: should be a mapping"),
    ("{model: din@latest, top_k: 100}", "{top_k: 100}", "defaults.model: Field required"),
    ("{model: din@latest, top_k: 100}", "{model: din}", "defaults.model: a model reference is name@version"),
    ("{model: din@latest, top_k: 100}", "{model: ../din@1}", "defaults.model: a model reference is name@version"),
    ("{model: din@latest, top_k: 100}", "{model: din@03}", "defaults.model: a model reference is name@version"),
    ("{model: din@latest, top_k: 100}", "{model: 3}", "defaults.model: Input should be a valid string"),
    ("din@latest, top_k: 100", "din@latest, top_k: 0", "defaults.top_k: Input should be greater than or equal to 1"),
    ("din@latest, top_k: 100", "din@latest, top_k: 5001", "defaults.top_k: Input should be less than or equal to 5000"),
    ("din@latest, top_k: 100", "din@latest, top_k: true", "defaults.top_k: Input should be a valid integer"),
    ("din@latest, top_k: 100", "din@latest, top_k: 10.0", "defaults.top_k: Input should be a valid integer"),
    ("din@latest, top_k: 100", 'din@latest, top_k: "10"', "defaults.top_k: Input should be a valid integer"),
    ("din@latest, top_k: 100", "din@latest, top_k: ", "defaults.top_k: has no value"),
    ("din@latest, top_k: 100", "din@latest, score: Bad Name", "defaults.score: String should match pattern"),
    ("salt: ranking-layer", "salt:", "layers.0.salt: has no value; write one or leave the key out"),
    ("salt: ranking-layer", 'salt: "\\ud800"', "layers.0.salt: holds a lone surrogate"),
    ("salt: ranking-layer", "salt: 5", "layers.0.salt: Input should be a valid string"),
    ("salt: ranking-layer", f"salt: {'x' * 257}", "layers.0.salt: String should have at most 256 characters"),
    ("name: ranking", "name: Ranking", "layers.0.name: String should match pattern"),
    ("name: ranking", 'name: "ranking\\n"', "layers.0.name: String should match pattern"),
    ("name: ranking", "name: 123", "layers.0.name: Input should be a valid string"),
    ("name: ranking", f"name: {'x' * 65}", "layers.0.name: String should match pattern"),
    ("name: objective", "name: ranking", "layers.1.name: layer 'ranking' stands twice, first at layers.0"),
    ("name: longer-history", "name: by-cvr", f"{CVR}.name: experiment 'by-cvr' stands twice, first at {LONGER}"),
    ("name: cvr,", "name: ctr,", f"{CVR}.arms.1.name: arm 'ctr' stands twice"),
    ("num_buckets: 10000", "num_buckets: 1", "layers.0.num_buckets: Input should be greater than or equal to 2"),
    ("num_buckets: 10000", "num_buckets: 1000001", "layers.0.num_buckets: Input should be less than or equal to 1000000"),
    ("num_buckets: 10000", "num_buckets: 5999", f"{LONGER}.traffic: [5000, 6000) reaches past the 5999 buckets"),
    ("owns: [score]", "owns: [score, speed]", "layers.1.owns.1: Input should be 'model', 'top_k' or 'score'"),
    ("owns: [score]", "owns: [score, score]", "layers.1.owns: score stands twice"),
    ("owns: [score]", "owns: [score, model]", "layers.1.owns: model is owned by layers.0 already; one layer owns a param"),
    ("owns: [score]", "owns: []", f"{CVR}.arms.1.params.score: the layer does not own score; it owns nothing"),
    ("owns: [model, top_k]", "owns: [model]", f"{VERSUS}.arms.1.params.top_k: the layer does not own top_k; it owns model"),
    ("traffic: [[0, 5000]]", "traffic: [[0, 5001]]", f"{LONGER}.traffic: [5000, 6000) overlaps [0, 5001) of {VERSUS}.traffic"),
    ("traffic: [[0, 5000]]", "traffic: [[0, 10], [9, 20]]", f"{VERSUS}.traffic: [9, 20) overlaps [0, 10) of {VERSUS}.traffic"),
    ("traffic: [[0, 5000]]", "traffic: [[5, 5]]", f"{VERSUS}.traffic.0: [5, 5) holds no bucket"),
    ("traffic: [[0, 5000]]", "traffic: [[9, 5]]", f"{VERSUS}.traffic.0: [9, 5) holds no bucket"),
    ("traffic: [[0, 5000]]", "traffic: [[-1, 5]]", f"{VERSUS}.traffic.0.0: Input should be greater than or equal to 0"),
    ("traffic: [[0, 5000]]", "traffic: [[0, 5, 6]]", f"{VERSUS}.traffic.0: List should have at most 2 items"),
    ("traffic: [[0, 5000]]", "traffic: [0]", f"{VERSUS}.traffic.0: List should have at least 2 items"),
    ("traffic: [[0, 5000]]", "traffic: [0.0, 5]", f"{VERSUS}.traffic.0.0: Input should be a valid integer"),
    ("traffic: [[0, 5000]]", "traffic: all", f"{VERSUS}.traffic: Input should be a valid list"),
    ("        traffic: [[0, 5000]]\n", "", f"{VERSUS}.traffic: Field required"),
    ("control: control", "control: nobody", f"{VERSUS}.control: no arm 'nobody'; the arms are control, treatment"),
    ("buckets: [[9999, 10000]]", "buckets: []", f"{CVR}.arms: buckets [9999, 10000) belong to no arm"),
    ("buckets: [[0, 9999]]", "buckets: [[1, 9999]]", f"{CVR}.arms: buckets [0, 1) belong to no arm"),
    ("buckets: [[0, 9999]]", "buckets: [[0, 9998]]", f"{CVR}.arms: buckets [9998, 9999) belong to no arm"),
    ("buckets: [[0, 9999]]", "buckets: [[0, 10000]]", f"{CVR}.arms.1.buckets: [9999, 10000) overlaps [0, 10000)"),
    ("buckets: [[9999, 10000]]", "buckets: [[9999, 10001]]", f"{CVR}.arms.1.buckets: [9999, 10001) reaches past the 10000"),
    ("buckets: [[0, 9999]]", "weight: 50", f"{CVR}.arms: some arms give buckets and some weight"),
    ("buckets: [[0, 9999]]", "buckets: [[0, 9999]], weight: 50", f"{CVR}.arms.0: give buckets or weight, not both"),
    (", buckets: [[0, 9999]]", "", f"{CVR}.arms.0: has no share; give buckets or weight"),
    ("weight: 12.5", "weight: 12.49", f"{LONGER}.arms: the weights sum to 99.99%, not to 100%"),
    ("weight: 12.5", "weight: 12.51", f"{LONGER}.arms: the weights sum to 100.01%, not to 100%"),
    ("weight: 12.5", "weight: -1", f"{LONGER}.arms.0.weight: Input should be greater than or equal to 0"),
    ("weight: 12.5", "weight: 100.01", f"{LONGER}.arms.0.weight: Input should be less than or equal to 100"),
    ("weight: 12.5", "weight: 1e999", f"{LONGER}.arms.0.weight: Input should be"),
    ("weight: 12.5", "weight: .nan", f"{LONGER}.arms.0.weight: Input should be a valid number"),
    ("weight: 12.5", "weight: true", f"{LONGER}.arms.0.weight: Input should be a valid number"),
    ("weight: 12.5", "weight: ", f"{LONGER}.arms.0.weight: has no value"),
    ("weight: 87.5,", "weight: 87.5, Params: {},", f"{LONGER}.arms.1.Params: unknown key"),
    ("params: {model: din-long@1}", "params: {network: din-long@1}", f"{LONGER}.arms.1.params.network: unknown key"),
    ("params: {model: din-long@1}", "params: [model]", f"{LONGER}.arms.1.params: should be a mapping"),
    ("params: {model: din-long@1}", "params:", f"{LONGER}.arms.1.params: has no value"),
    ("salt: ranking-layer", 'salt: "layer:objective"', "layers.1.salt: 'layer:objective' is the salt of layers.0 too"),
    ("salt: ranking-layer", 'salt: "experiment:by-cvr"', f"{CVR}.salt: 'experiment:by-cvr' is the salt of layers.0 too"),
    ("traffic: [5000, 6000]", 'traffic: [5000, 6000]\n        salt: "ranking-layer"', f"{LONGER}.salt: 'ranking-layer' is its"),
    (
        "traffic: [5000, 6000]",
        'traffic: [5000, 6000]\n        salt: "experiment:by-cvr"',
        f"{CVR}.salt: 'experiment:by-cvr' is the salt of {LONGER} too; their draws would be one draw",
    ),
]


@pytest.mark.parametrize(("old", "new", "problem"), ONE_MISTAKE)
def test_one_mistake_gives_one_problem_that_names_its_key(old, new, problem):
    found = _problems(_edited(old, new), all_published())
    assert len(found) == 1, found
    assert found[0].startswith(problem)


def test_weights_that_are_no_whole_buckets_are_refused_rather_than_rounded():
    third = f"{LONGER}.arms.0.weight: 33.333% of 10000 buckets is 3333.3 buckets; give a whole number or ranges"
    assert third in _problems(_edited("weight: 12.5", "weight: 33.333"))


NOT_A_PLAN = [
    pytest.param("", "(top level): should be a mapping", id="empty"),
    pytest.param("[]", "(top level): should be a mapping", id="a list"),
    pytest.param("version: 1\nversion: 1\n", "YAML: line 2: key 'version' stands twice", id="duplicate key"),
    pytest.param("a: &a [1]\nb: *a\n", "YAML: line 2 or before: aliases are not accepted", id="alias"),
    pytest.param("version: !!int '1'\n", "YAML: line 1: tags are not accepted", id="tag"),
    pytest.param("a: 1\n!!merge <<: {b: 1}\n", "YAML: line 2: tags are not accepted", id="merge by tag"),
    pytest.param("version: 1\n---\nversion: 1\n", "YAML: expected a single document", id="two documents"),
    pytest.param("version: [1\n", "YAML: while parsing a flow sequence", id="broken syntax"),
    pytest.param("[" * 500, "YAML: nested deeper than 50 levels", id="depth"),
    pytest.param(b"version: \xff\n", "YAML: not UTF-8 at byte 9", id="not UTF-8"),
    pytest.param("#" * (MAX_BYTES + 1), f"YAML: longer than {MAX_BYTES} bytes", id="too long"),
    pytest.param("a: " + "9" * 5000, "YAML: a value cannot be read", id="5,000 digits"),
]


@pytest.mark.parametrize(("text", "problem"), NOT_A_PLAN)
def test_text_that_is_no_plain_yaml_mapping_is_refused(text, problem):
    found = _problems(text)
    assert len(found) == 1, found
    assert found[0].startswith(problem)


def test_every_problem_is_listed_at_once_whatever_its_kind():
    text = FULL_PLAN
    for old, new in [
        ("top_k: 100", "top_k: 0"),
        ("salt: ranking-layer", "salt:"),
        ("traffic: [[0, 5000]]", "traffic: [[0, 5001]]"),
        ("control: control", "control: nobody"),
        ("weight: 12.5", "weight: 12"),
        ("din-long@1", "din-long"),
        ("owns: [score]", "owns: [score, model]"),
        ("buckets: [[0, 9999]]", "buckets: [[0, 9998]], extra: 1"),
        ("{score: cvr}", "{score: ctcvr}"),
    ]:
        assert text.count(old) == 1
        text = text.replace(old, new)
    published = all_published()
    del published.scores["deepfm@latest"]
    found = _problems(text, published)
    keys = [line.split(": ", 1)[0] for line in found]
    assert sorted(keys) == sorted(
        [
            "defaults.top_k",
            "layers.0.salt",
            f"{LONGER}.traffic",
            f"{VERSUS}.control",
            f"{VERSUS}.arms.0.params.model",
            f"{LONGER}.arms",
            f"{LONGER}.arms.1.params.model",
            "layers.1.owns",
            f"{CVR}.arms.0.extra",
            f"{CVR}.arms",
            f"{CVR}.arms.1.params.score",
            f"{CVR}.arms.1.params.score",
        ]
    )


def test_a_broken_share_hides_only_what_depends_on_it():
    text = _edited("buckets: [[0, 9999]]", "buckets: [[0, x]]").replace("control: control", "control: nobody")
    assert [line.split(": ", 1)[0] for line in _problems(text)] == [f"{CVR}.arms.0.buckets.0.1", f"{VERSUS}.control"]


def test_a_broken_arm_list_hides_what_depends_on_its_arms():
    text = _edited("{name: ctr, buckets: [[0, 9999]]}", "ctr").replace("control: control", "control: treatment")
    assert _problems(text) == [f"{CVR}.arms.0: should be a mapping of keys to values"]


def test_a_broken_name_hides_no_shared_salt():
    text = FULL_PLAN.replace("name: ranking", "name: Ranking").replace(
        "name: objective", "name: objective\n    salt: ranking-layer"
    )
    assert [line.split(": ", 1)[0] for line in _problems(text)] == ["layers.0.name", "layers.1.salt"]


def test_a_broken_range_is_the_only_problem_of_an_experiment_on_its_layers_salt():
    assert [line.split(": ", 1)[0] for line in _problems(PLAIN_SPLIT.replace("[[0, 100]]", "[[0, x]]"))] == [
        "layers.0.experiments.0.traffic.0.1"
    ]


def test_ranges_far_outside_are_each_reported():
    text = _edited("buckets: [[0, 9999]]", "buckets: [[0, 9999], [20000, 30000], [40000, 50000]]")
    assert [line.rsplit(": ", 1)[1] for line in _problems(text)] == [
        "[20000, 30000) reaches past the 10000 buckets",
        "[40000, 50000) reaches past the 10000 buckets",
    ]


def test_an_unknown_model_is_named_where_it_stands():
    published = all_published()
    del published.scores["din@3"]
    assert _problems(FULL_PLAN, published) == [f"{VERSUS}.arms.1.params.model: din@3: no published version"]


def test_a_check_that_cannot_read_the_models_refuses_the_plan():
    class Unreadable:
        def score_names(self, reference):
            raise PermissionError(13, "Permission denied")

    assert "defaults.model: [Errno 13] Permission denied" in _problems(FULL_PLAN, Unreadable())


@pytest.mark.parametrize("model", ["din@latest", "deepfm@latest", "din@3", "din-long@1"])
def test_a_score_must_exist_in_every_model_that_another_layer_may_choose(model):
    published = all_published()
    published.scores[model] = ("ctr",)
    assert _problems(FULL_PLAN, published) == [f"{CVR}.arms.1.params.score: {model} has no score 'cvr'; it has ctr"]


def _one_layer(defaults, *arms):
    shares = [[0, 5000], [5000, 10000]]
    arms = [{"name": f"a{place}", "buckets": shares[place], "params": params} for place, params in enumerate(arms)]
    experiment = {"name": "test", "traffic": [0, 10000], "arms": arms}
    layers = [{"name": "layer", "owns": ["model", "score"], "experiments": [experiment]}]
    return as_yaml({"version": 1, "defaults": defaults, "layers": layers})


def test_in_one_layer_a_score_must_exist_in_its_own_arms_model_only():
    published = Published(din__1=("like",), deepfm__1=("ctr",))
    parse_plan(_one_layer({"model": "deepfm@1"}, {"model": "din@1", "score": "like"}, {"score": "ctr"}), published)


@pytest.mark.parametrize(
    ("defaults", "arm", "path"),
    [
        ({"model": "din@1", "score": "ctr"}, {}, "defaults.score"),
        ({"model": "deepfm@1", "score": "ctr"}, {"model": "din@1"}, "defaults.score"),
        ({"model": "din@1"}, {"score": "ctr"}, "layers.0.experiments.0.arms.1.params.score"),
        ({"model": "deepfm@1"}, {"model": "din@1", "score": "ctr"}, "layers.0.experiments.0.arms.1.params.score"),
    ],
)
def test_a_score_that_meets_a_model_without_it_is_refused(defaults, arm, path):
    published = Published(din__1=("like",), deepfm__1=("ctr",))
    assert _problems(_one_layer(defaults, {}, arm), published) == [f"{path}: din@1 has no score 'ctr'; it has like"]


def test_a_broken_model_leaves_open_whether_its_arms_score_fits():
    text = _one_layer({"model": "din@1"}, {"model": "deepfm", "score": "ctr"}, {})
    assert [line.split(": ", 1)[0] for line in _problems(text, Published(din__1=("like",)))] == [
        "layers.0.experiments.0.arms.0.params.model"
    ]


def test_sharing_the_layers_salt_is_allowed_for_all_traffic_and_refused_one_bucket_below():
    parse_plan(PLAIN_SPLIT, None)
    (problem,) = _problems(PLAIN_SPLIT.replace("traffic: [[0, 100]]", "traffic: [[0, 99]]"))
    assert problem.startswith("layers.0.experiments.0.salt: '' is its layer's salt too")


def test_problems_are_single_printable_lines_of_bounded_length():
    text = f'version: 1\ndefaults: {{model: din@1}}\n"\\u202e\\r\\n{"x" * 900}": 1\n'
    (problem,) = _problems(text)
    assert problem.startswith(r"\u202e\r\nxxx")
    assert problem.isprintable()
    assert len(problem) == 501
    assert (printable("x" * 500), printable("x" * 501)) == ("x" * 500, "x" * 500 + "…")


def test_any_text_is_a_plan_or_is_refused_with_reasons():
    pieces = FULL_PLAN.splitlines(keepends=True)
    for place in range(len(pieces)):
        for text in ("".join(pieces[:place]), "".join(pieces[:place] + pieces[place + 1 :])):
            assert _problems_if_refused(text) != []


def _places(node, path=()):
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _places(value, (*path, key))


def test_every_value_of_a_plan_may_be_of_any_type_without_a_crash():
    strange = [None, True, -1, 10**30, 1.5, "x", "\ud800", [], [[]], {}, {"a": 1}, [None], [{}]]
    by_range = {"name": "a", "salt": "s", "traffic": [0, 5], "control": "x", "arms": [{"name": "x", "buckets": [[0, 10000]]}]}
    by_weight = {"name": "b", "traffic": [], "arms": [{"name": "x", "weight": 100, "params": {"model": "din@3"}}]}
    layers = [{"name": "l", "owns": ["model"], "num_buckets": 5, "experiments": [by_range, by_weight]}]
    whole = {"version": 1, "defaults": {"model": "din@3", "score": "ctr"}, "layers": layers}
    parse_plan(as_yaml(whole), all_published())
    for path in _places(whole):
        for value in strange:
            problems = _problems_if_refused(as_yaml(_replaced(whole, path, value)), all_published())
            assert all(problem.isprintable() for problem in problems or [])


def _replaced(node, path, value):
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = _replaced(node[path[0]], path[1:], value)
    return copy
