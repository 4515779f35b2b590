"""From the spool to the store: in order, again after every trouble, and back to where the store stands when it lost writes."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from feature_store.errors import RecordCorruptError, SpoolFailedError, StoreRewoundError, StoreUnavailableError
from feature_store.events.event import Event, decode_event, encode_event
from feature_store.events.ports import Applied, ApplierObserver, EventStore, SpoolMark
from feature_store.events.spool import Spool

_log = logging.getLogger("rankline.events")

_REMEMBERED_OUTCOMES = 10_000
_SLICE = 32
"""How many events are encoded or decoded before others may use the event loop."""
_CALM_S = 60.0
_ALARMING_REWINDS = 8


@dataclass(frozen=True, slots=True)
class ApplierRule:
    """``batch_records`` and ``batch_bytes`` bound one step in the store; it is asked every ``check_s`` whether it lost writes.

    After trouble the next try comes after ``first_pause_s``, doubled up to ``longest_pause_s``, shortened by chance to a half;
    after the store lost writes, doubled with each time within a minute up to ``rewound_pause_s``.
    """

    batch_records: int = 64
    batch_bytes: int = 1 << 20
    check_s: float = 1.0
    first_pause_s: float = 0.05
    longest_pause_s: float = 1.0
    rewound_pause_s: float = 5.0


@dataclass(frozen=True, slots=True)
class _Submission:
    first: int
    last: int
    outcomes: asyncio.Future[list[Applied] | None]


class EventApplier:
    """Drains one spool into the store; for one event loop. ``run`` must be running for events to be applied.

    Of sequence numbers: all up to ``_position`` are in the store as far as is known, or lost for good; it goes back when the
    store lost writes. ``_mark`` is where the store's mark must stand for the next batch (None: nowhere to rely on);
    ``_mark_known`` whether that is so since the last trouble. ``_known_applied`` is what the mark may not fall below, by what
    the spool or the store said last. Up to ``_tried`` batches were sent, whatever came of it; up to ``_unrecoverable`` losses
    are counted, up to ``_rejected`` unusable records put aside: these three only rise.
    """

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
        self._known_applied = spool.applied
        self._unrecoverable = 0
        self._rejected = 0
        self._rewinds = 0
        self._rewound_at = 0.0
        self.failing = False
        """Whether the last try met trouble."""
        self._submissions: set[_Submission] = set()
        self._outcomes: dict[int, Applied] = {}

    @property
    def backlog(self) -> int:
        """Events that are durable and not in the store, as far as is known."""
        return max(0, self._spool.durable - self._position)

    @property
    def drained(self) -> bool:
        """Whether all that the spool ever held is applied and kept no longer."""
        return self.backlog == 0 and self._spool.pending == 0 and self._spool.oldest > self._spool.durable

    async def submit(self, events: Sequence[Event], timeout_s: float) -> list[Applied] | None:
        """Keep events for good, and wait for what becomes of them.

        Returns:
            The outcomes, in order; None when the store has not taken all of them within ``timeout_s`` (it will), or when
            they are applied and what became of them is forgotten already.

        Raises:
            SpoolFullError, SpoolFailedError: none of the events was kept for certain.
        """
        records: list[bytes] = []
        for start in range(0, len(events), _SLICE):
            if start:
                await asyncio.sleep(0)
            records += map(encode_event, events[start : start + _SLICE])
        last = await self._spool.append(records)
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
                self.failing, pause_s = False, self._rule.first_pause_s
                continue
            except StoreRewoundError as error:
                self._rewind(error.applied_through, servers_changed=error.servers_changed)
                await asyncio.sleep(self._rewound_pause_s())
                continue
            except StoreUnavailableError as error:
                self._mark_known = False  # the connection went: whoever answers next may know less
                self._tell(self._observer.try_failed, error.reason)
            except SpoolFailedError as error:
                _log.error("spool cannot be read", extra={"reason": str(error)})
                self._tell(self._observer.try_failed, "spool")
            except Exception:
                _log.exception("applying events failed")
                self._tell(self._observer.try_failed, "unknown")
            self.failing = True
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
        self._mark, self._mark_known = found.sure, True
        at_least, self._known_applied = self._known_applied, found.sure or 0
        if (known and found.sure != expected) or (found.sure or 0) < at_least:
            raise StoreRewoundError(found.number, servers_changed=found.servers_changed)

    def _rewind(self, applied_through: int | None, *, servers_changed: bool) -> None:
        """Go on from where the store stands: where its servers are others, from the oldest event that there still is, though
        nothing need be lost. What it has applied already it will not apply again."""
        sure = None if servers_changed else applied_through
        before, oldest = self._position, self._spool.oldest
        # Never on: a mark further on may be that of a copy of the spool, which says nothing of these events.
        self._position = max(min(sure or 0, before), oldest - 1)
        self._mark, self._mark_known, self._known_applied = sure, True, sure or 0
        self._count_unrecoverable(applied_through or 0, min(before, oldest - 1))
        if self._position < before and oldest <= before:
            self._tell(self._observer.replay_began)
            what = "the store's servers are others; replaying" if servers_changed else "the store lost writes; replaying"
            _log.warning(what, extra={"from": self._position, "to": before})

    def _count_unrecoverable(self, after: int, last: int) -> None:
        after = max(after, self._unrecoverable)
        if last > after:
            self._unrecoverable = last
            self._tell(self._observer.events_lost, last - after)
            missing = {"after": after, "before": last + 1}
            _log.error("the store does not know of events that the spool keeps no longer", extra=missing)

    def _rewound_pause_s(self) -> float:
        """Two processes with copies of one spool undo each other's marks for ever: not in a hot loop."""
        now = time.monotonic()
        self._rewinds = self._rewinds + 1 if now - self._rewound_at < _CALM_S else 1
        self._rewound_at = now
        if self._rewinds == _ALARMING_REWINDS:
            _log.error("the store's mark of this spool moves by itself: is there a copy of the spool's folder in use?")
        return min(self._rule.first_pause_s * 2.0 ** min(self._rewinds - 1, 30), self._rule.rewound_pause_s)

    async def _apply(self, records: Sequence[tuple[int, bytes]]) -> None:
        events = await self._decoded(records)
        last = records[-1][0]
        tried, self._tried = self._tried, max(self._tried, last)
        mark = SpoolMark(self._spool.spool_id, self._mark, last, start=self._position)
        applied = await self._store.apply([event for _, event in events], mark)
        self._mark = self._position = self._known_applied = last
        self._checked_at = time.monotonic()
        for (sequence, _), outcome in zip(events, applied, strict=True):
            # An event that is not fresh at its second try was applied by the first, whose reply was lost.
            self._outcomes[sequence] = Applied(outcome.fresh or sequence <= tried, outcome.version)
        while len(self._outcomes) > _REMEMBERED_OUTCOMES:
            del self._outcomes[next(iter(self._outcomes))]
        self._tell(self._observer.batch_applied, [event for _, event in events], [outcome.fresh for outcome in applied])
        self._answer()
        await self._spool.mark_applied(last)

    def _tell(self, call: Callable[..., None], *what: Any) -> None:
        """An observer that fails must not keep events from the store, nor callers from their answers."""
        try:
            call(*what)
        except Exception:
            _log.exception("an observer of events failed")

    def _answer(self) -> None:
        """Tell those who wait for events that are applied by now."""
        for submission in self._submissions:
            if submission.last > self._position or submission.outcomes.done():
                continue
            outcomes = [self._outcomes.get(sequence) for sequence in range(submission.first, submission.last + 1)]
            known = [outcome for outcome in outcomes if outcome is not None]
            submission.outcomes.set_result(known if len(known) == len(outcomes) else None)

    async def _decoded(self, records: Sequence[tuple[int, bytes]]) -> list[tuple[int, Event]]:
        """The events among the records. One of another version of the service must not stop the others: it is put aside."""
        events: list[tuple[int, Event]] = []
        for place, (sequence, data) in enumerate(records, 1):
            try:
                events.append((sequence, decode_event(data)))
            except RecordCorruptError as error:
                await self._reject(sequence, data, str(error))
            if place % _SLICE == 0:
                await asyncio.sleep(0)
        return events

    async def _reject(self, sequence: int, data: bytes, reason: str) -> None:
        if sequence <= self._rejected:
            return  # again, after the store lost writes
        self._rejected = sequence
        _log.error("a spooled record is no event", extra={"sequence": sequence, "reason": reason})
        self._tell(self._observer.record_rejected)
        await self._spool.reject(sequence, data, reason)
