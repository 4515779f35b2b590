"""``lost-events``: what was acknowledged is there once, whatever was killed and whichever replies were lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from loadtest.chaos.event_audit import balance
from loadtest.chaos.event_books import read_books
from loadtest.chaos.event_sender import EventSenders, SenderRule, SenderTally
from loadtest.chaos.made_events import random_batches
from loadtest.chaos.outcome import Outcome, Run
from loadtest.chaos.service_process import ServiceProcess
from loadtest.chaos.settling import wait_until_settled
from loadtest.chaos.stage import Stage, staged
from loadtest.chaos.store_server import Persistence, StoreServer

Victim = Literal["service", "store"]


@dataclass(frozen=True, slots=True)
class Losses:
    """What is sent, and how often each side is killed; kills are spread over the run by how much was acknowledged."""

    events: int
    service_kills: int
    store_kills: int
    users: int = 500
    persistence: Persistence = "snapshot"
    rule: SenderRule = field(default_factory=SenderRule)


@dataclass(slots=True)
class Executioner:
    """Kills when its turn comes and starts again at once, in a thread, one after the other."""

    plan: list[tuple[int, Victim]]
    """How many events must be acknowledged, and who dies then; in order."""
    kill: Callable[[Victim], None]
    done: list[Victim] = field(default_factory=list)
    acknowledged: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def told(self, acknowledged: int) -> None:
        """The senders' news."""
        self.acknowledged = max(self.acknowledged, acknowledged)
        self._news.set()

    async def run(self) -> None:
        """Until the plan is done."""
        for threshold, victim in self.plan:
            while self.acknowledged < threshold:
                self._news.clear()
                await self._news.wait()
            await asyncio.to_thread(self.kill, victim)
            self.done.append(victim)


def kill_plan(losses: Losses, seed: int) -> list[tuple[int, Victim]]:
    """Kills at random shares of the first 95 % of the events."""
    rng = random.Random(f"kills-{seed}")
    counts: dict[Victim, int] = {"service": losses.service_kills, "store": losses.store_kills}
    victims = [victim for victim, count in counts.items() for _ in range(count)]
    rng.shuffle(victims)
    thresholds = sorted(int(rng.uniform(0.02, 0.95) * losses.events) for _ in victims)
    return list(zip(thresholds, victims, strict=True))


def lost_events(run: Run, losses: Losses) -> Outcome:
    """Run the scenario on a service and a store of its own."""
    started = time.monotonic()
    with staged(run.workspace, losses.persistence) as stage:
        environment = stage.environment(stage.event_settings())
        with ServiceProcess(environment, stage.directory / "service.log") as service:
            executioner = Executioner(kill_plan(losses, run.seed), lambda victim: _kill(victim, service, stage.store))
            senders = EventSenders(service.port, losses.rule, run.seed, executioner.told)
            asyncio.run(_run(senders, executioner, losses, run.seed))
            unsettled = wait_until_settled(service)
            figures, breaches = audited(stage, senders, ("eu-", "ei-"))
    if unsettled:
        breaches.insert(0, unsettled)
    kills = {victim: executioner.done.count(victim) for victim in ("service", "store")}
    if kills != {"service": losses.service_kills, "store": losses.store_kills}:
        breaches.append(f"only {kills} of the kills were done")
    figures |= {"kills": kills, "persistence": losses.persistence, "seconds": round(time.monotonic() - started, 1)}
    claim = "Every acknowledged event is in the log, the history and the counters exactly once; no other is there twice."
    name = "lost-events" if losses.persistence == "snapshot" else "lost-events-appendonly"
    return Outcome(name, run.command, run.seed, claim, figures, breaches)


def audited(stage: Stage, senders: EventSenders, prefixes: tuple[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Figures and breaches of the books and of the sending; ``prefixes`` of the ids of users and items."""
    with stage.store.client() as client:
        books = balance(senders.ledger, read_books(client, *prefixes), stage.history_length)
    tally = senders.tally
    breaches = [*books.breaches, *(f"{times} times: {what}" for what, times in tally.breaches.most_common(5))]
    return {**books.figures, **figures_of(tally)}, breaches


def figures_of(tally: SenderTally) -> dict[str, Any]:
    """The figures of the sending."""
    return {
        "answers_by_status": {str(status): times for status, times in sorted(tally.statuses.items())},
        "tries_without_an_answer": tally.failures.total(),
        "replies_dropped_by_the_client": tally.replies_dropped,
        "batches_abandoned": tally.batches_abandoned,
    }


async def _run(senders: EventSenders, executioner: Executioner, losses: Losses, seed: int) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(executioner.run())
            await senders.send_all(iter(random_batches(losses.events, losses.users, seed)))
            # Abandoned events are never acknowledged: the last kills must not wait for them.
            executioner.told(losses.events)
    except BaseExceptionGroup as errors:
        # Such as a service that did not start again: nothing is left to send to.
        raise errors.exceptions[0] from None


def _kill(victim: Victim, service: ServiceProcess, store: StoreServer) -> None:
    side: Sequence[Callable[[], None]] = (service.kill, service.start) if victim == "service" else (store.kill, store.start)
    for act in side:
        act()
