"""A circuit breaker: after some failures in a row nothing is tried for a while, then one call probes.

A frozen Redis costs every caller the whole read timeout and every timeout costs a connection. With the circuit open,
callers learn at once that the store is out, and only the probes wait.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When the circuit opens, and for how long.

    The first pause is ``first_pause_s``; each failed probe doubles it up to ``longest_pause_s``. Every pause is shortened
    by a random share of up to ``jitter``, so that many processes do not probe a returning store together.
    """

    failures: int = 5
    first_pause_s: float = 0.1
    longest_pause_s: float = 1.0
    jitter: float = 0.5


class CircuitBreaker:
    """Closed: everyone may call. Open: nobody. Half-open, once the pause is over: one probe until its outcome is known.

    For one event loop; it holds no lock. Every ``permits()`` that said yes must be followed by exactly one ``succeeded``,
    ``failed`` or ``abandoned``, or the circuit stays half-open.
    """

    def __init__(
        self,
        rule: BreakerRule,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._rule = rule
        self._clock = clock
        self._draw = draw
        self._failures = 0
        self._pause_s = 0.0
        self._open_until: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether ordinary calls are refused (half-open included)."""
        return self._open_until is not None

    def permits(self) -> bool:
        """Whether a call may be made now; with the circuit half-open, only the first asker hears yes."""
        if self._open_until is None:
            return True
        if self._probing or self._clock() < self._open_until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The store answered: the circuit closes."""
        self._failures = 0
        self._pause_s = 0.0
        self._open_until = None
        self._probing = False

    def failed(self) -> None:
        """The store did not answer. Late failures of calls made before the circuit opened change nothing."""
        self._failures += 1
        if self._open_until is None:
            if self._failures >= self._rule.failures:
                self._open(self._rule.first_pause_s)
        elif self._probing:
            self._open(min(self._pause_s * 2, self._rule.longest_pause_s))

    def abandoned(self) -> None:
        """The call ended without a word on the store's health; a probe may be tried again."""
        self._probing = False

    def _open(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._open_until = self._clock() + pause_s * (1 - self._rule.jitter * self._draw())
        self._probing = False
