"""Generations under everything at once: several processes, and drawn histories of writes, damage and restarts."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from service.experiments.plan_source import PlanSource
from tests.service.experiments.plans import FALLBACK, plan_for

ROOT = Path(__file__).parents[3]
TEXTS = [plan_for(f"din@{version}") for version in range(1, 5)]
DAMAGED = ["", "version: 1\n", TEXTS[0] + "layers: 5\n", "\x00"]

WORKER = """
import sys
from pathlib import Path
from service.experiments.params import Params
from service.experiments.plan import ExperimentPlan
from service.experiments.plan_source import PlanSource
root = Path(sys.argv[1])
source = PlanSource(root / "plan.yaml", root / "state", None, fallback=ExperimentPlan(Params("popular@1")))
print("ready", flush=True)
last = False
while not last:
    last = (root / "stop").exists()
    active = source.reload().active
    print(active.generation, active.plan.defaults.model)
"""


def _replace(path, text):
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.rename(path)


@pytest.fixture
def workers(tmp_path):
    _replace(tmp_path / "plan.yaml", TEXTS[0])
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in started:
        assert worker.stdout.readline() == "ready\n"
    yield started
    for worker in started:
        worker.kill()
        worker.wait()
        worker.stdout.close()


def test_processes_that_reload_at_once_agree_on_every_number(workers, tmp_path):
    for turn in range(40):
        _replace(tmp_path / "plan.yaml", TEXTS[turn % len(TEXTS)])
        time.sleep(0.01)
    (tmp_path / "stop").touch()
    last = PlanSource(tmp_path / "plan.yaml", tmp_path / "state", None, fallback=FALLBACK)
    seen = [worker.communicate()[0].splitlines() for worker in workers]
    last.reload()
    plans_of = {}
    for line in (line for lines in seen for line in lines):
        generation, model = line.split()
        plans_of.setdefault(int(generation), set()).add(model)
    assert all(len(plans) == 1 for plans in plans_of.values())
    assert 0 not in plans_of
    assert len(plans_of) >= 5, "the workers met several plans"
    for lines in seen:
        numbers = [int(line.split()[0]) for line in lines]
        assert numbers == sorted(numbers)
        assert numbers[-1] == last.active.generation


class SharedPlan(RuleBasedStateMachine):
    """Two workers, one file, one state directory. A generation never stands for two plans, and never goes back."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.path, self.state = self.root / "plan.yaml", self.root / "state"
        self.plan_of = {}
        self.highest = [0, 0]
        self.workers = [self._worker(), self._worker()]

    def _worker(self):
        return PlanSource(self.path, self.state, None, fallback=FALLBACK, lock_timeout_s=1)

    @initialize(text=st.sampled_from(TEXTS))
    def first_plan(self, text):
        self.write_good(text)
        for which in (0, 1):
            self.reload(which)

    @rule(text=st.sampled_from(TEXTS))
    def write_good(self, text):
        _replace(self.path, text)

    @rule(text=st.sampled_from(DAMAGED))
    def write_bad(self, text):
        _replace(self.path, text)

    @rule()
    def remove_file(self):
        self.path.unlink(missing_ok=True)

    @rule(place=st.integers(0, 400))
    def damage_last_good(self, place):
        for path in self.state.glob("plan-*.json"):
            raw = bytearray(path.read_bytes())
            raw[place % len(raw)] ^= 0xFF
            path.write_bytes(raw)

    @rule()
    def leave_a_torn_temporary(self):
        (self.state / ".plan-dead.tmp").write_bytes(b'{"format":')

    @rule(which=st.integers(0, 1))
    def reload(self, which):
        worker = self.workers[which]
        before = worker.active
        result = worker.reload()
        text = self.path.read_text() if self.path.exists() else None
        if text in TEXTS:
            assert result.outcome != "refused"
            assert f"{{model: {worker.active.plan.defaults.model}}}" in text
            assert worker.active.stale is None
        else:
            assert result.outcome == "refused"
            assert result.problems
            assert worker.active is before or worker.active.stale is not None
        assert not worker.has_changed()

    @rule(which=st.integers(0, 1))
    def restart(self, which):
        self.workers[which] = self._worker()
        self.highest[which] = 0
        self.reload(which)

    @invariant()
    def numbers_stand_for_one_plan_and_only_rise(self):
        for which, worker in enumerate(self.workers):
            active = worker.active
            assert active.generation >= self.highest[which]
            self.highest[which] = active.generation
            if active.generation > 0:
                assert self.plan_of.setdefault(active.generation, active.plan) == active.plan

    def teardown(self):
        shutil.rmtree(self.root)


SharedPlan.TestCase.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
TestSharedPlan = SharedPlan.TestCase
