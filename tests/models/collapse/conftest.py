import pytest

from models.collapse import collapse


@pytest.fixture
def any_gain(monkeypatch):
    """Small graphs are rewritten, too, where it does not pay."""
    monkeypatch.setattr(collapse, "_GAIN", float("inf"))
