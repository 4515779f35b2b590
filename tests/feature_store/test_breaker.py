"""The circuit breaker: opens after failures in a row, probes alone, closes on an answer."""

import pytest

from feature_store.breaker import BreakerRule, CircuitBreaker

RULE = BreakerRule(failures=3, first_pause_s=1.0, longest_pause_s=4.0, jitter=0.5)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(RULE, clock=clock, draw=lambda: 0.0)


def fail(breaker, times):
    for _ in range(times):
        breaker.failed()


def test_it_opens_after_as_many_failures_in_a_row_as_the_rule_says(breaker):
    fail(breaker, 2)
    assert breaker.permits()
    breaker.failed()
    assert not breaker.permits()


def test_a_success_starts_the_count_anew(breaker):
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.permits()


def test_after_the_pause_one_caller_probes_alone(breaker, clock):
    fail(breaker, 3)
    clock.now += 0.999
    assert not breaker.permits()
    clock.now += 0.001
    assert [breaker.permits() for _ in range(5)] == [True, False, False, False, False]


def test_a_probe_that_succeeds_closes_the_circuit(breaker, clock):
    fail(breaker, 3)
    clock.now += 1
    assert breaker.permits()
    breaker.succeeded()
    assert all(breaker.permits() for _ in range(5))


def test_each_failed_probe_doubles_the_pause_up_to_the_longest(breaker, clock):
    fail(breaker, 3)
    for pause in (1.0, 2.0, 4.0, 4.0):
        clock.now += pause - 0.001
        assert not breaker.permits()
        clock.now += 0.001
        assert breaker.permits()
        breaker.failed()


def test_failures_of_calls_made_before_it_opened_do_not_prolong_the_pause(breaker, clock):
    fail(breaker, 3)
    clock.now += 0.5
    fail(breaker, 20)
    clock.now += 0.5
    assert breaker.permits()


def test_an_abandoned_probe_leaves_room_for_another(breaker, clock):
    fail(breaker, 3)
    clock.now += 1
    assert breaker.permits()
    breaker.abandoned()
    assert breaker.permits()


def test_after_a_recovery_the_first_pause_is_short_again(breaker, clock):
    fail(breaker, 3)
    clock.now += 1
    breaker.permits()
    breaker.failed()
    clock.now += 2
    breaker.permits()
    breaker.succeeded()
    fail(breaker, 3)
    clock.now += 1
    assert breaker.permits()


def test_jitter_shortens_the_pause(clock):
    breaker = CircuitBreaker(RULE, clock=clock, draw=lambda: 1.0)
    fail(breaker, 3)
    clock.now += 0.499
    assert not breaker.permits()
    clock.now += 0.001
    assert breaker.permits()
