"""Labels are capped: nobody can add series at will."""

from service.telemetry import MAX_LABEL_VALUES, OTHER, CappedLabel, Telemetry


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
