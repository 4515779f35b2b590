"""What is done to a store while it is read: connections killed at random, all commands held up for some milliseconds."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import redis

from loadtest.chaos.store_server import StoreServer


@dataclass(slots=True)
class FaultCounts:
    """What was done so far."""

    kill_commands: int = 0
    connections_killed: int = 0
    pauses: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One fault about every ``every_s``: a pause of ``pause_ms`` for ``pause_share`` of them, else a kill (all, or one)."""

    every_s: float = 0.05
    pause_share: float = 0.3
    pause_ms: tuple[int, int] = (12, 40)


class StoreFaults:
    """A thread that meddles from a connection of its own, from ``__enter__`` to ``__exit__``."""

    def __init__(self, store: StoreServer, rule: FaultRule, seed: int) -> None:
        self.counts = FaultCounts()
        self._rule = rule
        self._random = random.Random(seed)
        self._client = store.client()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._meddle, name="store-faults", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave.set()
        self._thread.join()
        self._client.close()

    def _meddle(self) -> None:
        while not self._leave.wait(self._rule.every_s * self._random.uniform(0.5, 1.5)):
            drawn = self._random.random()
            try:
                if drawn < self._rule.pause_share:
                    self._client.client_pause(self._random.randint(*self._rule.pause_ms), all=True)
                    self.counts.pauses += 1
                else:
                    self._kill(everybody=drawn < (1.0 + self._rule.pause_share) / 2.0)
            except redis.RedisError:
                self.counts.refused += 1  # told in the figures; the thread must go on

    def _kill(self, *, everybody: bool) -> None:
        if everybody:
            killed = self._killed("TYPE", "normal")
        else:
            own = self._client.client_id()
            others = [each["id"] for each in self._client.client_list() if int(each["id"]) != own]
            killed = self._kill_one(self._random.choice(others)) if others else 0
        self.counts.kill_commands += 1
        self.counts.connections_killed += killed

    def _kill_one(self, client_id: str) -> int:
        try:
            return self._killed("ID", client_id)
        except redis.ResponseError:
            return 0  # it had gone by itself

    def _killed(self, which: str, value: str) -> int:
        # The driver's own method has no form that tells how many were killed.
        reply: int = self._client.execute_command("CLIENT", "KILL", which, value)  # type: ignore[no-untyped-call]
        return reply
