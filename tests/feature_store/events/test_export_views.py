"""The written views: read back as what was meant, whatever the team's names look like, and colliding with nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.events.export_views import export_names, exported_views_data, views_text
from feature_store.strict_yaml import load_strict_yaml
from feature_store.views import FeatureViews
from tests.feature_store.events.logged import event_shop

PRESENT = {"user_id", "item_id", "at", "clicked", "stars", "hour"}
words = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(["no", "1e5", "0x1", "12:30", "null", "~", "y", "1_0", "=", "<<", "a: b", "- x", "#", "é\x85", "😀", " "]),
)


@given(st.dictionaries(words, st.one_of(words, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans())))
def test_what_is_written_is_what_is_read(data):
    read = load_strict_yaml(views_text(data))
    assert read == data
    assert [type(value) for value in read.values()] == [type(value) for value in data.values()]


def test_equal_parts_are_written_out_twice():
    part = {"column": "x"}
    assert load_strict_yaml(views_text({"a": part, "b": part})) == {"a": part, "b": part}


def test_only_what_the_export_changes_is_changed():
    views = event_shop()
    names = export_names(views, PRESENT)
    before, after = views.model_dump(mode="json", exclude_unset=True), exported_views_data(views, names)
    assert {key for key in after if after[key] != before.get(key)} == {"tables", "interactions", "history"}
    assert after["history"] == {"length": 5, "where": {"column": "in_history"}}
    assert after["interactions"] == {"time": "at", "served_history": "served_history"}
    assert FeatureViews.model_validate(after).context == views.context


def test_new_columns_avoid_those_that_are_there():
    names = export_names(event_shop(), PRESENT | {"in_history", "served_history", "served_history_"})
    assert (names.in_history, names.served) == ("in_history_", "served_history__")


def test_the_columns_of_an_earlier_export_are_used_again():
    earlier = event_shop(
        history={"where": {"column": "in_history"}}, interactions={"time": "at", "served_history": "served_history"}
    )
    names = export_names(earlier, PRESENT | {"in_history", "served_history"})
    assert (names.in_history, names.served) == ("in_history", "served_history")


@pytest.mark.parametrize(
    ("context", "columns"),
    [
        ([{"name": "hour"}], {"hour": "hour"}),
        ([{"name": "daytime", "column": "hour"}], {"daytime": "hour"}),
        ([{"name": "one", "column": "hour"}, {"name": "two", "column": "hour"}], {"one": "context:one", "two": "context:two"}),
        ([{"name": "who", "column": "user_id"}], {"who": "context:who"}),
        ([{"name": "moment", "column": "at"}], {"moment": "context:moment"}),
        ([{"name": "shelf"}], {"shelf": "context:shelf"}),
    ],
)
def test_a_context_field_has_a_column_that_nothing_else_reads_or_writes(context, columns):
    events = {"types": [{"name": "seen", "sets": {"shelf": 1}}]}
    views = event_shop(context=[{"kind": "category", **field} for field in context], events=events)
    names = export_names(views, PRESENT)
    assert names.context == columns
    written = FeatureViews.model_validate(exported_views_data(views, names))
    assert {field.name: field.source for field in written.context} == columns
