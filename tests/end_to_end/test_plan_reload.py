"""The plan changes under a running service: by file, by signal, by an admin; a bad one changes nothing."""

import shutil
import signal

import pytest

from demo.steps import run_command
from tests.end_to_end.line import ADMIN, PLAN, call, rank, send_signal, serving, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BAD_PLANS = [
    PLAN.format(edge=5000).replace("din@latest", "nothing@latest"),
    PLAN.format(edge=5000).replace("[0, 10000]", "[0, 10001]"),
    PLAN.format(edge=5000).replace("buckets: [5000", "buckets: [4000"),
    PLAN.format(edge=5000).replace("owns: [model]", "owns: []"),
    PLAN.format(edge=5000) + "unknown: key\n",
    "version: 1\nversion: 1\n",
    "]",
    "",
]


def generation(server, line):
    return rank(server, {"user_id": line.users[0], "candidates": line.items[:1]})["generation"]


@pytest.fixture
def slow_poll(line, tmp_path):
    """A service that looks at its plan once an hour: what changes it is the signal or the route."""
    with serving(line, tmp_path, {"RANKLINE_PLAN__POLL_S": "3600"}) as server:
        yield server, tmp_path / "plan.yaml"


def test_a_saved_plan_is_in_force_soon_and_every_answer_says_so(line, tmp_path):
    with serving(line, tmp_path) as server:
        assert generation(server, line) == 1
        (tmp_path / "plan.yaml").write_text(PLAN.format(edge=10000).replace("buckets: [10000, 10000]", "buckets: []"))
        wait_until(lambda: generation(server, line) == 2)
        answers = [rank(server, {"user_id": user, "candidates": line.items[:1]}) for user in line.users[:20]]
        assert {answer["model"]["name"] for answer in answers} == {"deepfm"}
        assert {answer["experiments"][0]["generation"] for answer in answers} == {2}
    with serving(line, tmp_path) as server:
        assert generation(server, line) == 2, "a restart keeps the generation of an unchanged plan"


def test_an_admin_reload_lists_every_problem_of_a_bad_plan_and_keeps_the_running_one(slow_poll, line):
    server, plan = slow_poll
    for bad in BAD_PLANS:
        plan.write_text(bad)
        status, problem, headers = call(server, "POST", "/admin/experiments/reload", b"", ADMIN)
        assert status == 422, bad
        assert headers["content-type"] == "application/problem+json"
        assert problem["errors"], bad
        assert generation(server, line) == 1
    plan.write_text(PLAN.format(edge=2000))
    assert call(server, "POST", "/admin/experiments/reload", b"", ADMIN)[1]["outcome"] == "changed"
    assert generation(server, line) == 2
    shown = call(server, "GET", "/admin/experiments/plan", headers=ADMIN)[1]
    assert shown["generation"] == 2


def test_sighup_reloads(slow_poll, line):
    server, plan = slow_poll
    plan.write_text(PLAN.format(edge=2000))
    send_signal(server, signal.SIGHUP)
    wait_until(lambda: generation(server, line) == 2)


def test_the_last_good_plan_survives_a_restart_onto_a_broken_file(line, tmp_path):
    with serving(line, tmp_path):
        pass
    (tmp_path / "plan.yaml").write_text("broken: [")
    with serving(line, tmp_path) as server:
        assert generation(server, line) == 1
        assert "last good plan" in call(server, "GET", "/health/ready")[1]["plan"]["stale"]


def test_admin_routes_need_the_token_and_are_absent_without_one(line, tmp_path, server):
    for path, method in [("/admin/experiments/reload", "POST"), ("/admin/experiments/plan", "GET"), ("/admin/models", "GET")]:
        assert call(server, method, path, headers={"Authorization": "Bearer wrong"})[0] == 401
        assert call(server, method, path)[0] == 401
    with serving(line, tmp_path, {"RANKLINE_ADMIN_TOKEN": None}) as without:
        assert call(without, "POST", "/admin/experiments/reload", b"", ADMIN)[0] == 404


def test_a_new_version_of_latest_is_taken_up_and_a_broken_one_holds_nothing_up(line, tmp_path):
    repository = tmp_path / "models"
    shutil.copytree(line.workspace.models, repository)
    # A copy's manifest is of another version: whatever asks for it is refused.
    shutil.copytree(repository / "deepfm" / "1", repository / "deepfm" / "2")
    settings = {"RANKLINE_MODELS__REPOSITORY": str(repository)}
    with serving(line, tmp_path, settings) as server:
        assert set(call(server, "GET", "/health/ready")[1]["models"]) == {"din@1", "deepfm@1"}
        (run,) = line.workspace.runs.glob("*din*")
        run_command(["-m", "models", "export", str(run), "--repository", str(repository), "--name", "din"])
        wait_until(lambda: set(call(server, "GET", "/health/ready")[1]["models"]) == {"din@2", "deepfm@1"})
        (tmp_path / "plan.yaml").write_text(PLAN.format(edge=2000))
        wait_until(lambda: generation(server, line) == 2)
