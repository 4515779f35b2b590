"""The one YAML of a team: what it may say, and how a mistake in it is named."""

import pytest
import yaml

from feature_store.views import CategoriesField, FeatureViews, Hashing, ViewsError, Vocabulary, load_views


def declared(**changes):
    """The plainest views, with top-level keys replaced."""
    views = {
        "name": "shop",
        "tables": {"interactions": "i.csv", "users": "u.csv", "items": "t.csv"},
        "interactions": {"time": "at"},
        "user": {"key": "user_id"},
        "item": {"key": "item_id", "fields": [{"name": "item_id", "kind": "category"}]},
        "labels": [{"name": "click", "column": "clicked"}],
    }
    return {**views, **changes}


def problems_of(tmp_path, **changes):
    path = tmp_path / "views.yaml"
    path.write_text(yaml.safe_dump(declared(**changes)))
    with pytest.raises(ViewsError) as refused:
        load_views(path)
    assert all(problem.startswith(f"{path}: ") for problem in refused.value.problems)
    return [problem.removeprefix(f"{path}: ") for problem in refused.value.problems]


def item_fields(*fields):
    return {"key": "item_id", "fields": [{"name": "item_id", "kind": "category"}, *fields]}


def test_the_plainest_views_get_their_defaults(tmp_path):
    path = tmp_path / "views.yaml"
    path.write_text(yaml.safe_dump(declared()))
    views = load_views(path)
    assert (views.history.length, views.history.where, views.split.by) == (50, None, "time")
    assert views.item_key_field.name == "item_id"
    assert views.request_fields == views.candidate_fields == ()
    assert views.label("click").column == "clicked"


def test_every_kind_of_field_is_read():
    fields = [
        {"name": "a", "kind": "category", "column": "Column A", "encode": {"by": "hash", "buckets": 10}},
        {"name": "b", "kind": "categories", "separator": "|", "max_values": 3},
        {"name": "c", "kind": "number", "transform": "log1p", "default": 2},
    ]
    views = FeatureViews.model_validate(declared(item=item_fields(*fields)))
    _, a, b, c = views.item.fields
    assert (a.source, a.encode) == ("Column A", Hashing(by="hash", buckets=10))
    assert isinstance(b, CategoriesField)
    assert (b.source, b.encode, b.max_values) == ("b", Vocabulary(), 3)
    assert (c.transform, c.default) == ("log1p", 2.0)


def test_context_fields_are_parted_by_their_axis():
    context = [
        {"name": "hour", "kind": "category"},
        {"name": "place", "kind": "number", "per": "candidate"},
        {"name": "tags", "kind": "categories", "per": "request"},
    ]
    views = FeatureViews.model_validate(declared(context=context))
    assert [field.name for field in views.request_fields] == ["hour", "tags"]
    assert [field.name for field in views.candidate_fields] == ["place"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"title": "x"}, "title: is no known key"),
        ({"name": "My Shop"}, "name: String should match pattern"),
        ({"item": item_fields({"name": "a", "kind": "categry"})}, "item.fields.1: 'kind' is 'categry', but must be one of"),
        ({"item": item_fields({"name": "a"})}, "item.fields.1: has no 'kind'"),
        ({"item": item_fields(3)}, "item.fields.1: must be a mapping of keys to values"),
        (
            {"item": item_fields({"name": "a", "kind": "category", "encode": {"by": "vocabulary", "min_count": 0}})},
            "item.fields.1.encode.min_count: Input should be greater than or equal to 1",
        ),
        (
            {"item": item_fields({"name": "number", "kind": "category", "min_count": 1})},
            "item.fields.1.min_count: is no known key",
        ),
        ({"item": item_fields({"name": "a", "kind": "number", "default": float("nan")})}, "item.fields.1.default: "),
        ({"item": item_fields({"name": "a", "kind": "number", "default": "3"})}, "item.fields.1.default: "),
        ({"item": {"key": "item_id"}}, "(top level): item.fields needs a field of kind category over the key column 'item_id'"),
        ({"user": {"key": "item_id"}}, "(top level): user.key and item.key are both 'item_id'"),
        ({"item": item_fields({"name": "item_id", "kind": "number"})}, "field names must differ across all views: item_id"),
        ({"labels": []}, "labels: name at least one"),
        ({"labels": [{"name": "a", "column": column} for column in "bc"]}, "label names must differ: a stands twice"),
        ({"labels": [{"name": "score", "column": "b"}]}, "labels.0.name: 'score' is taken"),
        ({"labels": [{"name": "a", "column": "b", "at_least": True}]}, "labels.0.at_least: Input should be a valid number"),
        ({"labels": [{"name": "a", "column": "b", "at_least": "4"}]}, "labels.0.at_least: Input should be a valid number"),
        ({"labels": [{"name": "a", "column": "b", "equals": 1.5}]}, "labels.0.equals: must be text, an integer or true/false"),
        ({"labels": [{"name": "a", "column": "b", "equals": 1, "at_least": 1}]}, "labels.0: give at_least or equals, not both"),
        ({"labels": "click"}, "labels: must be a list"),
        ({"history": {"length": 0}}, "history.length: "),
        ({"history": {"length": 5.0}}, "history.length: Input should be a valid integer"),
        ({"split": {"by": "random"}}, "split.by: "),
        ({"split": {"valid": 0.5}}, "split.valid: Input should be less than 0.5"),
        ({"context": [{"name": "seen", "kind": "number", "column": "clicked"}]}, "the answer would be among the inputs"),
        ({"tables": {"interactions": "i.csv", "users": "u.csv"}}, "tables.items: is missing"),
    ],
)
def test_a_mistake_is_named_by_its_key_and_reason(tmp_path, changes, problem):
    found = problems_of(tmp_path, **changes)
    assert len(found) == 1
    assert problem in found[0]


def test_all_mistakes_are_named_at_once(tmp_path):
    found = problems_of(tmp_path, name="X", history={"length": "five"}, extra=1)
    assert [problem.split(":")[0] for problem in found] == ["name", "history.length", "extra"]


@pytest.mark.parametrize("text", ["", "[]", "3", "text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "views.yaml"
    path.write_text(text)
    with pytest.raises(ViewsError, match="must be a mapping"):
        load_views(path)


def test_broken_yaml_and_a_missing_file_are_views_errors(tmp_path):
    path = tmp_path / "views.yaml"
    path.write_text("a: [")
    with pytest.raises(ViewsError, match=r"views\.yaml: "):
        load_views(path)
    with pytest.raises(ViewsError, match="No such file"):
        load_views(tmp_path / "none.yaml")


def test_an_unknown_label_names_those_there_are():
    with pytest.raises(ViewsError, match="no label 'buy'; there are click"):
        FeatureViews.model_validate(declared()).label("buy")
