"""Clients that post events until they are acknowledged: each failure is retried with the same ids, some replies are dropped."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from loadtest.chaos.made_events import Ledger, MadeEvent, request_of
from loadtest.chaos.wire import Reply, Wire, WireBrokenError

_RETRY_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_LINGER_S = 0.02


@dataclass(frozen=True, slots=True)
class SenderRule:
    """``drop_share`` of the tries are sent and walked away from; of those, ``abandon_share`` are never tried again."""

    clients: int = 8
    drop_share: float = 0.1
    abandon_share: float = 0.2
    timeout_s: float = 2.0
    max_s: float = 3_600.0


@dataclass(slots=True)
class SenderTally:
    """What became of the tries."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    replies_dropped: int = 0
    batches_abandoned: int = 0
    breaches: Counter[str] = field(default_factory=Counter)


class EventSenders:
    """Several clients over one stream of batches; the ledger tells what they may claim."""

    def __init__(
        self, port: int, rule: SenderRule, seed: int, on_acknowledged: Callable[[int], object] = lambda _: None
    ) -> None:
        """``on_acknowledged`` is told how many events are acknowledged, each time some are."""
        self.ledger = Ledger()
        self.tally = SenderTally()
        self._port = port
        self._rule = rule
        self._seed = seed
        self._on_acknowledged = on_acknowledged

    async def send_all(self, batches: Iterator[Sequence[MadeEvent]]) -> None:
        """Returns when every batch was acknowledged or abandoned, or time is up."""
        give_up = time.monotonic() + self._rule.max_s
        async with asyncio.TaskGroup() as group:
            for place in range(self._rule.clients):
                group.create_task(self._client(batches, random.Random(f"{self._seed}-{place}"), give_up))

    async def _client(self, batches: Iterator[Sequence[MadeEvent]], rng: random.Random, give_up: float) -> None:
        wire = Wire(self._port)
        try:
            for batch in batches:
                self.ledger.sent.update((event.event_id, event) for event in batch)
                await self._until_acknowledged(wire, batch, rng, give_up)
                if time.monotonic() > give_up:
                    self.tally.breaches["time was up before all was sent"] += 1
                    return
        finally:
            wire.leave()

    async def _until_acknowledged(self, wire: Wire, batch: Sequence[MadeEvent], rng: random.Random, give_up: float) -> None:
        request = request_of(batch)
        while time.monotonic() < give_up:
            try:
                if rng.random() < self._rule.drop_share:
                    await self._walk_away(wire, request, rng)
                    if rng.random() < self._rule.abandon_share:
                        self.tally.batches_abandoned += 1
                        return
                    continue
                async with asyncio.timeout(self._rule.timeout_s):
                    reply = await wire.exchange(request)
            except (WireBrokenError, TimeoutError) as error:
                self.tally.failures[type(error).__name__] += 1
                await asyncio.sleep(_RETRY_PAUSE_S)
                continue
            self.tally.statuses[reply.status] += 1
            if self._is_over(batch, reply):
                return
            await asyncio.sleep(min(reply.retry_after_s or _RETRY_PAUSE_S, _LONGEST_PAUSE_S))

    def _is_over(self, batch: Sequence[MadeEvent], reply: Reply) -> bool:
        """Whether nothing is left to do for the batch: acknowledged, or answered as no good batch may be."""
        if reply.status in (200, 202):
            problem = _problem(batch, reply.body)
            if problem is None:
                self.ledger.acknowledged.update(event.event_id for event in batch)
                self._on_acknowledged(len(self.ledger.acknowledged))
            else:
                self.tally.breaches[problem] += 1
            return True
        if reply.status == 503:
            return False
        self.tally.breaches[f"answered {reply.status}: {reply.body[:200].decode(errors='replace')}"] += 1
        return reply.status < 500

    async def _walk_away(self, wire: Wire, request: bytes, rng: random.Random) -> None:
        """Send all or a part, and leave before, while or after the service works on it."""
        whole = rng.random() < 0.8
        await wire.send(request if whole else request[: rng.randrange(1, len(request))])
        await asyncio.sleep(rng.random() * _LINGER_S)
        wire.leave()
        self.tally.replies_dropped += 1


def _problem(batch: Sequence[MadeEvent], body: bytes) -> str | None:
    """What is wrong with an acknowledgement, or None."""
    try:
        answer = json.loads(body)
        accepted, refused = answer["accepted"], answer["refused"]
    except (ValueError, KeyError, TypeError):
        return "an acknowledgement that cannot be read"
    if refused:
        return f"good events were refused: {str(refused[0])[:120]}"
    return None if accepted == len(batch) else "an acknowledgement of another number of events"
