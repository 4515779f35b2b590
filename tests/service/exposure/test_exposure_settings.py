"""Settings of the exposure log: off by default, read from the environment, within bounds; and its metrics."""

import pytest
from pydantic import ValidationError

from service.exposure.log import ExposureLog
from service.exposure.rule import ExposureRule, rule_of
from service.settings import ExposureSettings, Settings
from service.telemetry import Telemetry
from tests.service.exposure.stand_ins import a_rule, an_answer


def test_without_a_directory_there_is_no_log():
    assert rule_of(ExposureSettings()) is None


def test_settings_become_the_rule(monkeypatch, tmp_path):
    monkeypatch.setenv("RANKLINE_EXPOSURES__DIRECTORY", str(tmp_path))
    monkeypatch.setenv("RANKLINE_EXPOSURES__FSYNC", "interval")
    monkeypatch.setenv("RANKLINE_EXPOSURES__KEY", "sixteen or more!")
    settings = Settings()
    assert "sixteen" not in repr(settings)
    assert rule_of(settings.exposures) == ExposureRule(directory=tmp_path, fsync="interval", key=b"sixteen or more!")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEY", "short"),
        ("KEY", "x" * 65),
        ("KEY", "\N{SNOWMAN}" * 30),
        ("FSYNC", "always"),
        ("CAPACITY_BYTES", "10"),
        ("ROTATE_BYTES", "1"),
        ("ROTATE_S", "0"),
        ("KEEP_FREE_BYTES", "-1"),
        ("FOLDER", "x"),
    ],
)
def test_a_wrong_setting_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"RANKLINE_EXPOSURES__{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def series(telemetry):
    lines = telemetry.render().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith("rankline_exposure"))


def test_without_a_log_there_are_no_series():
    assert not series(Telemetry())


def test_a_scrape_shows_what_became_of_the_answers(tmp_path):
    telemetry, log = Telemetry(), ExposureLog(a_rule(tmp_path))
    telemetry.exposures.follow(lambda: log.counts)
    assert series(telemetry)['rankline_exposures_total{outcome="dropped_full"}'] == "0.0"
    for number in range(3):
        log.offer(an_answer(number))
    log.offer(b"\n")
    log.close(10)
    log.offer(an_answer(4))
    for _ in range(2):
        shown = series(telemetry)
        assert shown['rankline_exposures_total{outcome="written"}'] == "3.0"
        assert shown['rankline_exposures_total{outcome="dropped_unusable"}'] == "1.0"
        assert shown['rankline_exposures_total{outcome="dropped_closed"}'] == "1.0"
        assert shown['rankline_exposure_waiting_bytes{log="files"}'] == "0.0"
        assert shown['rankline_exposure_failing{log="files"}'] == "0.0"
