"""Ramps and restarts: who changes arm, and who never does. The zero-claims are of the number of units in ``UNITS``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.experiments.assignment import assign
from service.experiments.plan import parse_plan
from tests.service.experiments.plans import FULL_PLAN

UNITS = 100_000
ROOT = Path(__file__).parents[3]


def _arms_of(traffic, arms, units, experiment="ramp"):
    """The arm of each unit, None outside the traffic."""
    plan = parse_plan(
        f"""\
version: 1
defaults: {{model: din@1}}
layers:
  - name: layer
    experiments:
      - {{name: {experiment}, traffic: {traffic}, arms: {arms}}}
""",
        None,
    )
    taken = (assign(plan, unit).assignments for unit in range(units))
    return [each[0].arm if each else None for each in taken]


THREE_ARMS = "[{name: a, weight: 50}, {name: b, weight: 30}, {name: c, weight: 20}]"


def test_growing_traffic_lets_units_in_and_moves_nobody():
    before = _arms_of("[]", THREE_ARMS, UNITS)
    assert set(before) == {None}
    for end in (10, 100, 2500, 10_000):
        after = _arms_of(f"[[0, {end}]]", THREE_ARMS, UNITS)
        moved = sum(old is not None and old != new for old, new in zip(before, after, strict=True))
        entered = sum(old is None and new is not None for old, new in zip(before, after, strict=True))
        assert moved == 0
        assert entered > 0
        before = after
    assert None not in before


def test_growing_an_arm_at_its_edge_moves_units_from_control_only():
    """Control lies between the two treatments and gives buckets to both."""
    before = None
    for grown in (0, 1, 100, 1000, 5000):
        control = f"{{name: control, buckets: {[[grown, 10_000 - grown]] if grown < 5000 else []}}}"
        left = f"{{name: left, buckets: {[[0, grown]] if grown else []}}}"
        right = f"{{name: right, buckets: {[[10_000 - grown, 10_000]] if grown else []}}}"
        after = _arms_of("[0, 10000]", f"[{control}, {left}, {right}]", UNITS // 4)
        moves = {(old, new) for old, new in zip(before or after, after, strict=True) if old != new}
        assert moves <= {("control", "left"), ("control", "right")}
        before = after
    assert set(before) == {"left", "right"}


def test_an_arm_without_buckets_and_an_arm_of_weight_zero_get_nobody():
    by_weight = _arms_of("[0, 10000]", "[{name: all, weight: 100}, {name: none, weight: 0}]", UNITS // 4)
    by_range = _arms_of("[0, 10000]", "[{name: none, buckets: []}, {name: all, buckets: [0, 10000]}]", UNITS // 4)
    assert set(by_weight) == set(by_range) == {"all"}


def test_shares_are_those_of_the_plan():
    arms = _arms_of("[0, 5000]", THREE_ARMS, UNITS // 2)
    counts = {name: arms.count(name) for name in (None, "a", "b", "c")}
    for name, share in {None: 0.5, "a": 0.25, "b": 0.15, "c": 0.10}.items():
        assert counts[name] == pytest.approx(share * len(arms), rel=0.03)


PRINT_ARMS = """
import sys
from service.experiments.assignment import assign
from service.experiments.plan import parse_plan
plan = parse_plan(sys.stdin.buffer.read(), None)
for unit in range(2000):
    print(assign(plan, f"\\u7528\\u6237{unit}"))
"""


@pytest.mark.parametrize(
    "environment", [{"PYTHONHASHSEED": "0"}, {"PYTHONHASHSEED": "12345", "LC_ALL": "C", "PYTHONUTF8": "0"}]
)
def test_another_process_another_hash_seed_and_another_locale_give_the_same_arms(environment):
    done = subprocess.run(
        [sys.executable, "-c", PRINT_ARMS],
        input=FULL_PLAN.encode(),
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    plan = parse_plan(FULL_PLAN, None)
    assert done.stdout.decode().splitlines() == [str(assign(plan, f"用户{unit}")) for unit in range(2000)]
