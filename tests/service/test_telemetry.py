"""Labels are capped: nobody can add series at will; what an answer was made without is counted by field and reason."""

import dataclasses

import pytest

from service.metric_labels import MAX_LABEL_VALUES, OTHER, CappedLabel
from service.ranking.query import Answer, Freshness, ModelUsed
from service.telemetry import Telemetry


def test_values_beyond_the_cap_count_as_other():
    label = CappedLabel()
    values = [label(f"model-{number}") for number in range(MAX_LABEL_VALUES + 50)]
    assert len(set(values)) == MAX_LABEL_VALUES + 1
    assert values[-1] == OTHER
    assert label("model-0") == "model-0"


def test_models_that_left_are_no_longer_shown():
    telemetry = Telemetry()
    telemetry.state_changed([("din", "1", "d", "cpu")], 1, stale=False)
    telemetry.state_changed([("din", "2", "e", "cpu")], 2, stale=True)
    text = telemetry.render().decode()
    assert 'version="2"' in text
    assert 'version="1"' not in text
    assert "rankline_plan_generation 2.0" in text
    assert "rankline_plan_stale 1.0" in text


def answer(**freshness):
    told = dict.fromkeys((field.name for field in dataclasses.fields(Freshness)), None)
    told.update({"user_known": True, "unknown_candidates": 0, "missing": (), "stale": (), "refused": (), **freshness})
    return Answer([], "ctr", None, ModelUsed("m", 1, "d"), (), 1, Freshness(**told), None, {})


def counted(telemetry):
    """Counts by field and status."""
    (metric,) = telemetry.missing.collect()
    return {(each.labels["field"], each.labels["status"]): each.value for each in metric.samples}


def test_fields_are_counted_by_why_they_had_no_value():
    telemetry = Telemetry()
    for _ in range(2):
        telemetry.answered(answer(missing=("age", "town"), stale=("price",), refused=("mood",)), 1)
    telemetry.answered(answer(stale=("age",)), 1)
    assert counted(telemetry) == {
        ("age", "missing"): 2,
        ("town", "missing"): 2,
        ("price", "stale"): 2,
        ("mood", "refused"): 2,
        ("age", "stale"): 1,
    }


def test_of_a_store_that_was_not_asked_nothing_is_counted_as_missing_but_cached_items_can_be_stale():
    telemetry = Telemetry()
    telemetry.answered(answer(user_known=None, missing=("age",), stale=("price",)), 1)
    assert counted(telemetry) == {("price", "stale"): 1}


@pytest.mark.parametrize("status", ["missing", "stale", "refused"])
def test_fields_beyond_the_cap_count_as_other_in_every_status(status):
    telemetry = Telemetry()
    for number in range(MAX_LABEL_VALUES + 50):
        telemetry.answered(answer(**{status: (f"field-{number}",)}), 1)
    assert len(counted(telemetry)) == MAX_LABEL_VALUES + 1
    assert counted(telemetry)[OTHER, status] == 50
