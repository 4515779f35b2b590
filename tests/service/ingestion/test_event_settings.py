"""Settings of live events: from the environment, within bounds, a limit of age that can be lifted."""

import pytest
from pydantic import ValidationError

from feature_store.redis.events import EventRule
from service import app
from service.settings import Settings
from tests.service.ingestion.stand_ins import make_views


def test_a_setting_is_read_from_its_variable(monkeypatch):
    monkeypatch.setenv("RANKLINE_VIEWS", "data/views.yaml")
    monkeypatch.setenv("RANKLINE_EVENTS__MAX_AGE_S", "none")
    monkeypatch.setenv("RANKLINE_EVENTS__MAX_EVENTS", "5")
    settings = Settings()
    assert str(settings.views) == "data/views.yaml"
    assert (settings.events.max_age_s, settings.events.max_events) == (None, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_AGE_S", "-1"),
        ("MAX_AGE_S", "never"),
        ("FUTURE_TOLERANCE_S", "-1"),
        ("MAX_EVENTS", "0"),
        ("SPOOL_CAPACITY_BYTES", "1"),
        ("LOG_EVENTS", "0"),
        ("REMEMBERED_IDS", "999"),
        ("MAX_EVENTS", "5000"),
        ("REMEMBERED_S", "3600"),
        ("RETAIN_S", "86400"),
        ("COUNTERS_S", "0"),
    ],
)
def test_a_wrong_setting_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"RANKLINE_EVENTS__{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_what_the_store_remembers_is_what_was_set(monkeypatch):
    given = {"LOG_EVENTS": 7, "REMEMBERED_IDS": 2_000, "REMEMBERED_S": 7_200, "COUNTERS_S": 600}
    for name, value in given.items():
        monkeypatch.setenv(f"RANKLINE_EVENTS__{name}", str(value))
    rule = app._event_rule(Settings().events, make_views("ms"))
    assert {name.upper(): getattr(rule, name.lower()) for name in given} == given
    assert (rule.history_length, rule.half_lives) == (make_views().history.length, (3_600_000.0, 86_400_000.0))


def test_the_defaults_are_those_of_the_store():
    assert app._event_rule(Settings().events, make_views()) == EventRule.of(make_views())
