"""Events made from a seed, in batches, and the ledger of what was sent and what was acknowledged."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loadtest.chaos.wire import post

HISTORY_TYPE = "click"
TYPES = ("view", HISTORY_TYPE)
_SPREAD_MS = 5 * 86_400 * 1_000
_LARGEST_BATCH = 20


@dataclass(frozen=True, slots=True)
class MadeEvent:
    """What is sent of one event; ``time`` in Unix seconds."""

    event_id: str
    user_id: str
    item_id: str
    type: str
    time: float


@dataclass(slots=True)
class Ledger:
    """``sent``: every event that may have reached the service. ``acknowledged``: those that it said it has."""

    sent: dict[str, MadeEvent] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)


def request_of(batch: Sequence[MadeEvent]) -> bytes:
    """The bytes of a ``POST /events``."""
    events = [
        {"event_id": each.event_id, "user_id": each.user_id, "item_id": each.item_id, "type": each.type, "time": each.time}
        for each in batch
    ]
    return post("/events", json.dumps({"events": events}).encode())


def random_batches(events: int, users: int, seed: int) -> Iterator[list[MadeEvent]]:
    """``events`` events of random users in batches of 1 to 20; no user has two at one moment, so that order is decided."""
    rng = random.Random(seed)
    # Not in the future by any clock, and far within the age that is taken.
    newest_ms = int(time.time() * 1_000) - 3_600_000
    taken: set[tuple[int, int]] = set()
    made = 0
    while made < events:
        batch = []
        for _ in range(min(rng.randint(1, _LARGEST_BATCH), events - made)):
            user = rng.randrange(users)
            moment = _new_moment(rng, newest_ms, user, taken)
            batch.append(
                MadeEvent(f"e{seed}-{made}", f"eu-{user}", f"ei-{rng.randrange(5_000)}", rng.choice(TYPES), moment / 1_000)
            )
            made += 1
        yield batch


def shuffled_histories(users: int, per_user: tuple[int, int], seed: int) -> list[list[MadeEvent]]:
    """Batches in which every user's clicks come in random order, spread over all batches."""
    rng = random.Random(seed)
    newest_ms = int(time.time() * 1_000) - 3_600_000
    taken: set[tuple[int, int]] = set()
    events = []
    for user in range(users):
        for place in range(rng.randint(*per_user)):
            moment = _new_moment(rng, newest_ms, user, taken) / 1_000
            events.append(
                MadeEvent(f"o{seed}-{user}-{place}", f"ou-{user}", f"oi-{rng.randrange(5_000)}", HISTORY_TYPE, moment)
            )
    rng.shuffle(events)
    batches, start = [], 0
    while start < len(events):
        size = rng.randint(1, _LARGEST_BATCH)
        batches.append(events[start : start + size])
        start += size
    return batches


def one_users_batches(events: int, size: int, seed: int) -> Iterator[list[MadeEvent]]:
    """Clicks of a single user, a second apart or less, in order."""
    rng = random.Random(seed)
    step_s = min(1.0, 20 * 86_400 / events)
    first = time.time() - 3_600 - events * step_s
    for start in range(0, events, size):
        yield [
            MadeEvent(f"s{seed}-{place}", "su-1", f"si-{rng.randrange(5_000)}", HISTORY_TYPE, round(first + place * step_s, 3))
            for place in range(start, min(start + size, events))
        ]


def _new_moment(rng: random.Random, newest_ms: int, user: int, taken: set[tuple[int, int]]) -> int:
    while True:
        moment = newest_ms - rng.randrange(_SPREAD_MS)
        if (user, moment) not in taken:
            taken.add((user, moment))
            return moment
