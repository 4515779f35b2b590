"""Faults on purpose, in the size that CI bears; ``make chaos-features`` runs the long ones (docs/chaos.md)."""

import pytest

from loadtest.chaos.event_order import event_order
from loadtest.chaos.frozen_store import Freezes, frozen_store
from loadtest.chaos.lost_events import Losses, lost_events
from loadtest.chaos.one_user import one_user
from loadtest.chaos.outcome import Run
from loadtest.chaos.own_histories import OwnHistories
from loadtest.chaos.rude_clients import Crowd
from loadtest.chaos.wrong_user import wrong_user

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def run(line) -> Run:
    return Run(line.workspace.root, seed=20_261_122, command="tests/end_to_end/test_chaos.py")


def check(outcome) -> None:
    assert outcome.breaches == [], outcome.summary()


def test_no_answer_of_20000_carries_another_users_data(run):
    outcome = wrong_user(run, OwnHistories(500), Crowd(answers=20_000, max_s=150))
    check(outcome)
    assert outcome.figures["answers_checked"] >= 20_000
    assert outcome.figures["wrong"] == 0
    assert outcome.figures["faults"]["connections_killed"] > 100
    assert outcome.figures["faults"]["pauses"] > 10
    assert outcome.figures["disconnected"] > 5_000


def test_a_frozen_store_makes_no_answer_late_and_is_forgotten_soon(run):
    # How late is late is measured by the long run; here two cores are shared with a whole test suite.
    freezes = Freezes(times=1, freeze_s=3, rate_per_s=30, timeout_ms=1_000, grace_ms=1_000, recovery_s=3.5)
    check(frozen_store(run, OwnHistories(100), freezes))


@pytest.mark.parametrize("persistence", ["snapshot", "log"])
def test_no_acknowledged_event_is_lost_or_counted_twice(run, persistence):
    outcome = lost_events(run, Losses(3_000, service_kills=2, store_kills=2, users=60, persistence=persistence))
    check(outcome)
    assert outcome.figures["acknowledged"] > 2_500
    assert outcome.figures["kills"] == {"service": 2, "store": 2}


def test_histories_are_in_order_whatever_the_order_of_arrival(run):
    outcome = event_order(run, users=200)
    check(outcome)
    assert outcome.figures["longest_arrival_per_user"] > outcome.figures["history_length"]


def test_one_users_events_stay_bounded(run):
    outcome = one_user(run, events=12_000, max_user_bytes=1_048_576)
    # Timing belongs to the long run.
    assert [breach for breach in outcome.breaches if "times as long" not in breach] == [], outcome.summary()
    assert outcome.figures["history_version"] == 12_000
