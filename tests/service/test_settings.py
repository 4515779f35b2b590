"""Settings come from the environment; unknown and impossible ones stop the process with the setting's name."""

import pytest
from pydantic import ValidationError

from service.settings import Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("RANKLINE_"):
            monkeypatch.delenv(name)


def test_a_nested_setting_is_read_from_its_variable(monkeypatch):
    monkeypatch.setenv("RANKLINE_STORE__URL", "redis://localhost:1")
    monkeypatch.setenv("RANKLINE_LIMITS__MAX_CANDIDATES", "7")
    settings = Settings()
    assert settings.store.url is not None
    assert settings.store.url.get_secret_value() == "redis://localhost:1"
    assert settings.limits.max_candidates == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANKLINE_STORE__URLS", "x"),
        ("RANKLINE_LIMITS__MAX_CANDIDATES", "0"),
        ("RANKLINE_ADMIN_TOKEN", "short"),
        ("RANKLINE_MODELS__PROVIDER", "tpu"),
        ("RANKLINE_STORE__PREFIX", "with{brace"),
    ],
)
def test_a_wrong_setting_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_a_secret_is_not_shown(monkeypatch):
    monkeypatch.setenv("RANKLINE_STORE__URL", "redis://:hunter2@localhost:1")
    monkeypatch.setenv("RANKLINE_ADMIN_TOKEN", "a-token-long-enough")
    assert "hunter2" not in repr(Settings())
    assert "a-token" not in repr(Settings())
