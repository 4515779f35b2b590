"""``event-order``: histories are in order, however their events arrive."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any

from loadtest.chaos.event_audit import expected_history
from loadtest.chaos.event_books import read_books
from loadtest.chaos.event_sender import EventSenders, SenderRule
from loadtest.chaos.lost_events import audited
from loadtest.chaos.made_events import MadeEvent, shuffled_histories
from loadtest.chaos.outcome import Outcome, Run, at_most
from loadtest.chaos.service_process import ServiceProcess
from loadtest.chaos.settling import wait_until_settled
from loadtest.chaos.stage import staged

_CALM = SenderRule(drop_share=0.0, timeout_s=30.0)


def event_order(run: Run, users: int) -> Outcome:
    """Every user's clicks in random order over concurrent requests; each history against the oracle."""
    batches = shuffled_histories(users, (5, 80), run.seed)
    sent: dict[str, list[MadeEvent]] = {}
    for event in itertools.chain.from_iterable(batches):
        sent.setdefault(event.user_id, []).append(event)
    with staged(run.workspace) as stage:
        settings = stage.environment(stage.event_settings())
        with ServiceProcess(settings, stage.directory / "service.log") as service:
            senders = EventSenders(service.port, _CALM, run.seed)
            started = time.monotonic()
            asyncio.run(senders.send_all(iter(batches)))
            seconds = time.monotonic() - started
            unsettled = wait_until_settled(service)
            figures, breaches = audited(stage, senders, ("ou-", "oi-"))
            with stage.store.client() as client:
                found = read_books(client, "ou-", "oi-").histories
        wrong = [
            user for user, events in sent.items() if user not in found or _differs(found[user], events, stage.history_length)
        ]
    if unsettled:
        breaches.insert(0, unsettled)
    if wrong:
        breaches.append(f"{len(wrong)} of {len(sent)} histories are not as the oracle has them, such as {', '.join(wrong[:3])}")
    events_sent = len(senders.ledger.sent)
    own = {
        "users_compared_with_the_oracle": len(sent),
        "histories_not_as_the_oracle": len(wrong),
        "wrong_rate_upper_95": at_most(len(sent)) if not wrong else None,
        "longest_arrival_per_user": max(map(len, sent.values())),
        "events_per_s": round(events_sent / max(seconds, 1e-9), 1),
        "history_length": stage.history_length,
    }
    claim = "Each history is the newest of its user's events by time, whatever the order of arrival."
    return Outcome("event-order", run.command, run.seed, claim, {**own, **figures}, breaches)


def _differs(found: Any, events: Sequence[MadeEvent], length: int) -> bool:
    return (found.items, found.times) != expected_history(events, length)
