"""A version that a front-end holds in the scorer process, and when it is asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from service.scoring.process.messages import Ready


@dataclass(slots=True, eq=False)
class Held:
    """``answer`` while the first load is under way; ``asked``, ``ready`` and ``refusal`` concern the present scorer.

    ``refusal``: why the scorer does not serve the version, though one did; empty while it said nothing of the kind.
    """

    name: str
    version: int
    digest: str
    answer: asyncio.Future[Ready] | None
    asked: bool = False
    ready: bool = False
    refusal: str = ""
    _retry: asyncio.TimerHandle | None = None
    _wait_s: float = 0.0

    def serves(self) -> None:
        """The scorer has it loaded."""
        self.ready, self.refusal, self._wait_s = True, "", 0.0

    def ask_later(self, ask: Callable[[], None], first_s: float, longest_s: float) -> None:
        """Call ``ask`` after ``first_s``, and after twice as long each time in a row, up to ``longest_s``."""
        self.forget_retry()
        self._wait_s = min(2 * self._wait_s or first_s, longest_s)
        self._retry = asyncio.get_running_loop().call_later(self._wait_s, ask)

    def scorer_gone(self) -> None:
        """What the old scorer said is not true of the next one, which is asked as soon as it is there."""
        self.asked, self.ready, self.refusal = False, False, ""
        self.forget_retry()

    def forget_retry(self) -> None:
        """Do not ask again."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
