"""``one-user``: one user's events stay bounded in length, memory and cost, however many there are."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.chaos.event_audit import FoundHistory, expected_history
from loadtest.chaos.event_books import memory_of_user, read_history
from loadtest.chaos.event_sender import EventSenders, SenderRule
from loadtest.chaos.made_events import MadeEvent, one_users_batches
from loadtest.chaos.outcome import Outcome, Run
from loadtest.chaos.service_process import ServiceProcess
from loadtest.chaos.settling import wait_until_settled
from loadtest.chaos.stage import staged

_RULE = SenderRule(clients=1, drop_share=0.0, timeout_s=60.0)
_BATCH = 1_000
_SLOWER_AT_MOST = 2.0
_USER = "su-1"


@dataclass(slots=True)
class Measured:
    """What was seen on the way, one entry per tenth of the events, and at the end."""

    us_per_event: list[float] = field(default_factory=list)
    bytes_by_key: list[dict[str, int]] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    history: FoundHistory | None = None


def one_user(run: Run, events: int, max_user_bytes: int) -> Outcome:
    """Run the scenario on a service and a store of its own."""
    batches = list(one_users_batches(events, min(_BATCH, max(1, events // 20)), run.seed))
    measured = Measured()
    with staged(run.workspace) as stage:
        environment = stage.environment(stage.event_settings())
        with ServiceProcess(environment, stage.directory / "service.log") as service, stage.store.client() as client:
            senders = EventSenders(service.port, _RULE, run.seed)
            for part in _tenths(batches):
                measured.us_per_event.append(round(_spent_s(senders, service, part) / sum(map(len, part)) * 1e6, 1))
                measured.bytes_by_key.append(memory_of_user(client, _USER))
            unsettled = wait_until_settled(service)
            measured.problems = [*([unsettled] if unsettled else []), *senders.tally.breaches]
            measured.statuses = {str(status): times for status, times in sorted(senders.tally.statuses.items())}
            measured.history = read_history(client, _USER)
    return judged(run, list(itertools.chain.from_iterable(batches)), measured, stage.history_length, max_user_bytes)


def judged(run: Run, events: Sequence[MadeEvent], measured: Measured, history_length: int, max_user_bytes: int) -> Outcome:
    """The outcome, from what was sent and what was measured."""
    history = measured.history or FoundHistory(0, [], [])
    sizes = [sum(keys.values()) for keys in measured.bytes_by_key]
    slower = measured.us_per_event[-1] / measured.us_per_event[0]
    newest = expected_history(events[-history_length:], history_length)
    happened = [
        ((history.items, history.times) != newest, "the history is not the newest events"),
        (history.version != len(events), f"the version is {history.version} after {len(events)} events"),
        (max(sizes) > max_user_bytes, f"the user's keys take {max(sizes)} bytes, asked at most {max_user_bytes}"),
        (slower > _SLOWER_AT_MOST, f"an event takes {slower:.2f} times as long in the last tenth as in the first"),
    ]
    figures: dict[str, Any] = {
        "events": len(events),
        "history_events_kept": len(history.items),
        "history_version": history.version,
        "bytes_by_key": measured.bytes_by_key[-1],
        "largest_bytes": max(sizes),
        "us_per_event_first_tenth": measured.us_per_event[0],
        "us_per_event_last_tenth": measured.us_per_event[-1],
        "last_to_first": round(slower, 3),
        "us_per_event_by_tenth": measured.us_per_event,
        "bytes_by_tenth": sizes,
        "answers_by_status": measured.statuses,
    }
    claim = f"One user's keys stay within {max_user_bytes:,} bytes, and an event costs the same after {len(events):,} of them."
    breaches = [*measured.problems, *(text for is_so, text in happened if is_so)]
    return Outcome("one-user", run.command, run.seed, claim, figures, breaches)


def _spent_s(senders: EventSenders, service: ServiceProcess, part: Sequence[Sequence[MadeEvent]]) -> float:
    """Seconds until all of a part were applied."""
    started, kept_only = time.monotonic(), senders.tally.statuses[202]
    asyncio.run(senders.send_all(iter(part)))
    spent_s = time.monotonic() - started
    if senders.tally.statuses[202] == kept_only:
        return spent_s
    # Acknowledged and not applied yet: a backlog must not hide the cost. Coarse, and never too little.
    wait_until_settled(service)
    return time.monotonic() - started


def _tenths(batches: Sequence[list[MadeEvent]]) -> Iterator[Sequence[list[MadeEvent]]]:
    edges = [round(len(batches) * place / 10) for place in range(11)]
    return (batches[start:end] for start, end in itertools.pairwise(edges) if end > start)
