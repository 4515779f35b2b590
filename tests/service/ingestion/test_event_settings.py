"""Settings of live events: from the environment, within bounds, a limit of age that can be lifted."""

import pytest
from pydantic import ValidationError

from service.settings import Settings


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
    ],
)
def test_a_wrong_setting_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"RANKLINE_EVENTS__{name}", value)
    with pytest.raises(ValidationError):
        Settings()
