"""Which store a command speaks to: flags win, then the service's own settings, then the service's default."""

import argparse
from pathlib import Path

import pytest

from feature_store.commands.store_url import add_store_options, store_url
from feature_store.errors import EmbeddedStoreError

URL, DIRECTORY, PREFIX = "RANKLINE_STORE__URL", "RANKLINE_STORE__DIRECTORY", "RANKLINE_STORE__PREFIX"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    for name in (URL, DIRECTORY, PREFIX):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_store_options(parser)
    return parser.parse_args([*map(str, arguments)])


def url_of(*arguments):
    with store_url(parsed(*arguments), create=False) as url:
        return url


def refused_directory(*arguments):
    """The directory of the embedded store that a reading command would ask, told by its absence."""
    with pytest.raises(EmbeddedStoreError) as refused, store_url(parsed(*arguments), create=False):
        pass
    return str(refused.value).removeprefix("no embedded store in ").partition(";")[0]


def test_the_url_of_the_service_is_the_default_and_flags_win(monkeypatch):
    monkeypatch.setenv(URL, "redis://service")
    monkeypatch.setenv(DIRECTORY, "of-the-service")
    assert url_of() == "redis://service"
    assert url_of("--redis", "redis://flag") == "redis://flag"
    assert refused_directory("--embedded", "flag") == "flag"


def test_then_the_directory_of_the_service_then_its_default(monkeypatch):
    assert refused_directory() == "var/store"
    monkeypatch.setenv(DIRECTORY, "of-the-service")
    assert refused_directory() == "of-the-service"
    monkeypatch.setenv(URL, "")
    assert refused_directory() == "of-the-service"


def test_the_prefix_of_the_service_is_the_default_too(monkeypatch):
    assert parsed().prefix == "rankline"
    monkeypatch.setenv(PREFIX, "shop")
    assert parsed().prefix == "shop"
    assert parsed("--prefix", "mine").prefix == "mine"


def test_a_reading_command_makes_no_store_and_a_writing_one_does():
    refused_directory("--embedded", "new")
    assert not Path("new").exists()
    with store_url(parsed("--embedded", "new"), create=True) as url:
        assert url.startswith("unix://")
    assert Path("new").is_dir()


def test_help_names_every_form_of_url_and_no_password(monkeypatch, capsys):
    monkeypatch.setenv(URL, "redis://user:secret@host")
    with pytest.raises(SystemExit):
        parsed("--help")
    shown = capsys.readouterr().out
    for form in ("redis://", "unix://", "redis+sentinel://", "redis+cluster://", "rediss"):
        assert form in shown
    assert "secret" not in shown
