"""From the spool to the store: in order, again after every trouble, and back to where the store stands when it lost writes."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from feature_store.errors import RecordCorruptError, SpoolFailedError, StoreRewoundError, StoreUnavailableError
from feature_store.events.event import Event, decode_event, encode_event
from feature_store.events.ports import Applied, EventStore, SpoolMark
from feature_store.events.spool import Spool

_log = logging.getLogger("rankline.events")

_REMEMBERED_OUTCOMES = 10_000


class ApplierObserver(Protocol):
    """Told what became of events; must not raise or block."""

    def events_applied(self, events: Sequence[Event], fresh: int) -> None: ...
    def store_rewound(self) -> None: ...
    def applying_failed(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ApplierRule:
    """``batch_records`` and ``batch_bytes`` bound one step in the store; it is asked every ``check_s`` whether it lost writes.

    After trouble the next try comes after ``first_pause_s``, doubled up to ``longest_pause_s``, shortened by chance to a half.
    """

    batch_records: int = 256
    batch_bytes: int = 1 << 20
    check_s: float = 1.0
    first_pause_s: float = 0.05
    longest_pause_s: float = 1.0


@dataclass(frozen=True, slots=True)
class _Submission:
    first: int
    last: int
    outcomes: asyncio.Future[list[Applied]]


class EventApplier:
    """Drains one spool into the store; for one event loop. ``run`` must be running for events to be applied."""

    def __init__(
        self,
        spool: Spool,
        store: EventStore,
        observer: ApplierObserver,
        rule: ApplierRule | None = None,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._spool = spool
        self._store = store
        self._observer = observer
        self._rule = rule or ApplierRule()
        self._draw = draw
        self._position = spool.applied
        self._mark: int | None = None
        self._mark_known = False
        self._checked_at = 0.0
        self._tried = spool.applied
        self._submissions: set[_Submission] = set()
        self._outcomes: dict[int, Applied] = {}

    @property
    def backlog(self) -> int:
        """Events that are durable and not in the store, as far as is known."""
        return max(0, self._spool.durable - self._position)

    async def submit(self, events: Sequence[Event], timeout_s: float) -> list[Applied] | None:
        """Keep events for good, and wait for what becomes of them.

        Returns:
            The outcomes, in order; None when the store has not taken all of them within ``timeout_s``: it will.

        Raises:
            SpoolFullError, SpoolFailedError: none of the events was kept for certain.
        """
        last = await self._spool.append([encode_event(event) for event in events])
        submission = _Submission(last - len(events) + 1, last, asyncio.get_running_loop().create_future())
        self._submissions.add(submission)
        self._answer()
        try:
            async with asyncio.timeout(timeout_s):
                return await submission.outcomes
        except TimeoutError:
            return None
        finally:
            self._submissions.discard(submission)

    async def run(self) -> None:
        """Apply what the spool holds, as it comes, until cancelled. No trouble ends it."""
        pause_s = self._rule.first_pause_s
        while True:
            try:
                await self._step()
                pause_s = self._rule.first_pause_s
                continue
            except StoreRewoundError as error:
                self._rewind(error.applied_through)
            except StoreUnavailableError as error:
                self._mark_known = False  # the connection went: whoever answers next may know less
                self._observer.applying_failed(error.reason)
            except SpoolFailedError as error:
                _log.error("spool cannot be read", extra={"reason": str(error)})
                self._observer.applying_failed("spool")
            except Exception:
                _log.exception("applying events failed")
                self._observer.applying_failed("unknown")
            await asyncio.sleep(pause_s * (1 - 0.5 * self._draw()))
            pause_s = min(2 * pause_s, self._rule.longest_pause_s)

    async def _step(self) -> None:
        """Look whether the store still knows what it knew, or apply the next batch, or wait for one."""
        if not self._mark_known or time.monotonic() - self._checked_at >= self._rule.check_s:
            await self._check_mark()
        records = await self._spool.read(self._position, self._rule.batch_records, self._rule.batch_bytes)
        if records:
            await self._apply(records)
            return
        try:
            async with asyncio.timeout(self._rule.check_s):
                await self._spool.wait(self._position)
        except TimeoutError:
            pass

    async def _check_mark(self) -> None:
        found = await self._store.applied_through(self._spool.spool_id)
        self._checked_at = time.monotonic()
        expected, known = self._mark, self._mark_known
        self._mark, self._mark_known = found, True
        if (known and found != expected) or (found or 0) < self._position:
            self._rewind(found)

    def _rewind(self, applied_through: int | None) -> None:
        """Go on from where the store stands. What it has applied already it will not apply again."""
        before, self._position = self._position, min(applied_through or 0, self._spool.durable)
        self._mark, self._mark_known = applied_through, True
        if self._position < before and self._spool.oldest <= before:
            self._observer.store_rewound()
            _log.warning("the store lost writes; replaying", extra={"from": self._position, "to": before})

    async def _apply(self, records: Sequence[tuple[int, bytes]]) -> None:
        events = [(sequence, event) for sequence, data in records if (event := _decoded(sequence, data)) is not None]
        last = records[-1][0]
        tried, self._tried = self._tried, max(self._tried, last)
        applied = await self._store.apply([event for _, event in events], SpoolMark(self._spool.spool_id, self._mark, last))
        self._mark = self._position = last
        self._checked_at = time.monotonic()
        for (sequence, _), outcome in zip(events, applied, strict=True):
            # An event that is not fresh at its second try was applied by the first, whose reply was lost.
            self._outcomes[sequence] = Applied(outcome.fresh or sequence <= tried, outcome.version)
        while len(self._outcomes) > _REMEMBERED_OUTCOMES:
            del self._outcomes[next(iter(self._outcomes))]
        self._observer.events_applied([event for _, event in events], sum(outcome.fresh for outcome in applied))
        self._answer()
        await self._spool.mark_applied(last)

    def _answer(self) -> None:
        """Tell those who wait for events that are applied by now."""
        for submission in self._submissions:
            if submission.last > self._position or submission.outcomes.done():
                continue
            outcomes = [self._outcomes.get(sequence) for sequence in range(submission.first, submission.last + 1)]
            submission.outcomes.set_result([outcome or Applied(False, 0) for outcome in outcomes])


def _decoded(sequence: int, data: bytes) -> Event | None:
    """An event, or None where the record is none: another version of the service wrote it, and it must not stop the others."""
    try:
        return decode_event(data)
    except RecordCorruptError as error:
        _log.error("a spooled record is no event", extra={"sequence": sequence, "reason": str(error)})
        return None
