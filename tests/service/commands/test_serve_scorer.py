"""``serve`` starts the scorer process where it is wanted, once for all workers, and hands its address down."""

import os
import sys
from pathlib import Path

import pytest

from service.app import create_app
from service.commands.serve import SCORER_ADDRESS, _scorer
from service.errors import StartupError
from service.scoring.process import cuda_probe, supervisor
from service.scoring.process.cuda_probe import finds_cuda
from service.settings import ModelSettings, Settings


class Supervisor:
    """Stands for the real one; tells what was started."""

    started: list

    def __init__(self, settings):
        self.address = "/nowhere/socket"
        self.started.append(settings)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.started.append("stopped")


@pytest.fixture
def started(monkeypatch):
    monkeypatch.setattr(Supervisor, "started", [], raising=False)
    monkeypatch.setattr(supervisor, "ScorerSupervisor", Supervisor)
    monkeypatch.delenv(SCORER_ADDRESS, raising=False)
    return Supervisor.started


def settings_of(**models):
    return Settings(models=ModelSettings(**models), log_level="warning")


@pytest.mark.parametrize(
    ("models", "workers_and_cuda", "process"),
    [
        ({"scorer": "auto", "provider": "auto"}, (2, True), True),
        ({"scorer": "auto", "provider": "cuda"}, (2, True), True),
        ({"scorer": "auto", "provider": "auto"}, (2, False), False),
        ({"scorer": "auto", "provider": "auto"}, (1, True), False),
        ({"scorer": "auto", "provider": "cpu"}, (2, True), False),
        ({"scorer": "inline", "provider": "auto"}, (2, True), False),
        ({"scorer": "process", "provider": "cpu"}, (2, False), True),
        ({"scorer": "process", "provider": "auto"}, (1, False), True),
    ],
)
def test_a_process_scores_where_it_is_asked_for_or_a_gpu_is_to_be_shared(
    started, monkeypatch, models, workers_and_cuda, process
):
    workers, cuda = workers_and_cuda
    monkeypatch.setattr(cuda_probe, "finds_cuda", lambda: cuda)
    with _scorer(settings_of(**models), workers):
        assert os.environ.get(SCORER_ADDRESS) == ("/nowhere/socket" if process else None)
        assert len(started) == process
    assert SCORER_ADDRESS not in os.environ
    assert started[1:] == ["stopped"] * process


def test_the_scorer_is_started_with_the_settings_of_models(started):
    with _scorer(
        settings_of(scorer="process", intra_op_threads=3, max_batch_rows=77, collapsed=False, repository="some/where"), 2
    ):
        (given,) = started
    assert (given.intra_op_threads, given.batch_rows, given.collapsed, given.log_level) == (3, 77, False, "warning")
    assert given.repository == str(Path.cwd() / "some/where")


def test_a_scorer_that_somebody_else_keeps_is_used(started, monkeypatch):
    monkeypatch.setenv(SCORER_ADDRESS, "/elsewhere")
    with _scorer(settings_of(scorer="process", scorer_address="/elsewhere"), 2):
        assert os.environ[SCORER_ADDRESS] == "/elsewhere"
    assert os.environ[SCORER_ADDRESS] == "/elsewhere"
    assert started == []


def test_an_app_that_finds_no_scorer_to_connect_to_says_what_to_set():
    with pytest.raises(StartupError, match="RANKLINE_MODELS__SCORER_ADDRESS"):
        create_app(Settings(models=ModelSettings(scorer="process"), store={"url": "redis://127.0.0.1:1"}))


@pytest.mark.parametrize(("program", "answer"), [("/bin/true", True), ("/bin/false", False), ("/nowhere/python", False)])
def test_what_the_probe_process_answers_is_believed(monkeypatch, program, answer):
    monkeypatch.setattr(sys, "executable", program)
    assert finds_cuda() is answer
