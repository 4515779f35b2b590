"""Questions of many requests, put to the store together: whoever waits anyway shares one exchange.

No question waits for others to come. With nothing under way it leaves at the end of the event loop's step, together with all
that were asked in it; while an exchange is under way questions gather, and leave when it ends. One that takes long, or one
that carries all it may, keeps nobody: the next ones leave beside it. The exception is a process that is ``busy``: an answer
would only wait for others' work to end, so questions gather a little, and fewer exchanges are that much less work.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from feature_store.breaker import CircuitBreaker
from feature_store.errors import StoreUnavailableError
from feature_store.expiry import Expiry
from feature_store.stored import StoredRecords

_GRACE_S = 0.001


def never_busy() -> bool:
    """Nothing is held back."""
    return False


@dataclass(frozen=True, slots=True)
class CoalescingRule:
    """How many questions share an exchange, how many exchanges are under way, and who is refused.

    An exchange carries at most ``questions``, and no more than ``keys`` keys unless a single question has more. ``exchanges``
    may be under way at once; a second one beside others leaves only ``patience_s`` after the last left, or with as much as it
    may carry. While all is busy, none waits for that longer than ``gather_s``. A question that found no place in
    ``queue_timeout_s`` is refused, as are those beyond ``outstanding``.
    """

    exchanges: int
    outstanding: int
    queue_timeout_s: float
    questions: int = 64
    keys: int = 4_096
    patience_s: float = 0.002
    gather_s: float = 0.005


@dataclass(slots=True, eq=False)
class Question:
    """A user and items that somebody wants to know of, and where the answer goes."""

    user_id: str
    item_ids: Sequence[str]
    answer: asyncio.Future[StoredRecords]
    asked_at: float
    deadline: float
    keys: int
    """How many are asked for: the user's features, the history, the items."""


Exchange = Callable[[Sequence[Question]], Coroutine[Any, Any, Sequence[StoredRecords]]]


class Coalescer:
    """Puts questions to the store by exchanges that no caller can cancel; for one event loop, it holds no lock.

    Every question was permitted by the circuit breaker. What its exchange tells the breaker is the exchange's business; a
    question that gets into none is reported as abandoned here.
    """

    def __init__(
        self, exchange: Exchange, rule: CoalescingRule, breaker: CircuitBreaker, busy: Callable[[], bool] = never_busy
    ) -> None:
        """``exchange`` gives the answers in the order of the questions, or raises for all of them.

        ``busy`` says whether an answer would have to wait for other work in any case. Only while questions wait it is asked,
        at every step of the event loop.
        """
        self._exchange = exchange
        self._rule = rule
        self._breaker = breaker
        self._busy = busy
        self._queue: deque[Question] = deque()
        self._queued_keys = 0
        self._asked = 0
        self._under_way: dict[asyncio.Task[None], list[Question]] = {}
        self._last_left = 0.0
        self._dispatch_due = self._overdue_seen = self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._expiry = Expiry(self._waiting)

    @property
    def outstanding(self) -> int:
        """Questions waiting or under way, those whose caller has gone included."""
        return len(self._queue) + self._asked

    def ask(self, user_id: str, item_ids: Sequence[str], timeout_s: float | None) -> asyncio.Future[StoredRecords]:
        """The answer to come: at the latest in ``timeout_s``, by ``StoreUnavailableError`` if there is none.

        Raises:
            StoreUnavailableError: ``closed``, or ``pool_exhausted`` with too many questions outstanding.
        """
        if self._closed:
            self._breaker.abandoned()
            raise StoreUnavailableError("closed")
        if len(self._queue) + self._asked >= self._rule.outstanding:
            self._breaker.abandoned()
            raise StoreUnavailableError("pool_exhausted", f"{self._rule.outstanding} reads are under way")
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        deadline = math.inf if timeout_s is None else now + timeout_s
        question = Question(user_id, item_ids, loop.create_future(), now, deadline, 2 + len(item_ids))
        self._queue.append(question)
        self._queued_keys += question.keys
        self._expiry.watch(deadline)
        if not self._dispatch_due:
            self._dispatch_due = True
            loop.call_soon(self._step)
        return question.answer

    async def close(self) -> None:
        """Refuse further questions and wait until those asked are answered, whatever the answer."""
        self._closed = True
        while self._queue or self._under_way:
            self._dispatch()
            if self._under_way:
                await asyncio.wait(self._under_way)
        self._expiry.stop()
        if self._timer is not None:
            self._timer.cancel()

    def _waiting(self) -> Iterator[Question]:
        return chain(self._queue, *self._under_way.values())

    def _step(self) -> None:
        """The end of a step of the event loop."""
        self._dispatch_due = False
        self._dispatch()

    def _dispatch(self) -> None:
        """Let leave what may leave now, and look again when more may."""
        if self._gathers():
            if not self._dispatch_due:
                self._dispatch_due = True
                asyncio.get_running_loop().call_soon(self._step)
            return
        while self._queue and self._may_leave():
            questions = self._next_questions()
            if questions:
                self._leave(questions)
        if self._queue:
            self._look_again()
        else:
            self._overdue_seen = False

    def _gathers(self) -> bool:
        """Whether nobody would have an answer sooner if the questions left now, and the oldest has not waited for long."""
        queue, rule = self._queue, self._rule
        if not queue or self._closed or not self._busy():
            return False
        return not self._is_full() and time.monotonic() - queue[0].asked_at < rule.gather_s

    def _is_full(self) -> bool:
        return len(self._queue) >= self._rule.questions or self._queued_keys >= self._rule.keys

    def _may_leave(self) -> bool:
        rule, under_way = self._rule, len(self._under_way)
        if not under_way:
            return True
        if under_way >= rule.exchanges:
            return False
        return self._is_full() or time.monotonic() - self._last_left >= rule.patience_s

    def _next_questions(self) -> list[Question]:
        """The oldest questions, as many as share an exchange; those that nobody waits for any more are dropped."""
        rule, queue = self._rule, self._queue
        taken: list[Question] = []
        keys = 0
        while queue and len(taken) < rule.questions and (not taken or keys + queue[0].keys <= rule.keys):
            question = queue.popleft()
            self._queued_keys -= question.keys
            if question.answer.done():
                self._breaker.abandoned()
            else:
                taken.append(question)
                keys += question.keys
        return taken

    def _leave(self, questions: list[Question]) -> None:
        self._asked += len(questions)
        self._last_left = time.monotonic()
        task = asyncio.get_running_loop().create_task(self._answer(questions))
        self._under_way[task] = questions
        task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._overdue_seen = False
        if self._queue:
            self._dispatch()

    async def _answer(self, questions: list[Question]) -> None:
        try:
            answers = await self._exchange(questions)
        except asyncio.CancelledError:  # the event loop ends
            for question in questions:
                question.answer.cancel()
            raise
        except Exception as error:
            for question in questions:
                if not question.answer.done():
                    question.answer.set_exception(_of_ones_own(error))
        else:
            for question, answer in zip(questions, answers, strict=True):
                if not question.answer.done():
                    question.answer.set_result(answer)
        finally:
            self._asked -= len(questions)

    def _look_again(self) -> None:
        """When a place may be had for patience, or the oldest question has waited too long."""
        if self._timer is not None:
            return
        rule, now = self._rule, time.monotonic()
        if len(self._under_way) < rule.exchanges:
            delay = self._last_left + rule.patience_s - now
        else:
            delay = self._queue[0].asked_at + rule.queue_timeout_s - now
        self._timer = asyncio.get_running_loop().call_later(max(delay, _GRACE_S), self._looked_again)

    def _looked_again(self) -> None:
        self._timer = None
        self._refuse_overdue()
        self._dispatch()

    def _refuse_overdue(self) -> None:
        """Refuse whoever waited too long; not at the first sight of one, as replies may lie unread after a busy loop step."""
        queue, latest = self._queue, time.monotonic() - self._rule.queue_timeout_s
        if len(self._under_way) < self._rule.exchanges or not queue or queue[0].asked_at > latest:
            self._overdue_seen = False
            return
        if not self._overdue_seen:
            self._overdue_seen = True
            return
        while queue and queue[0].asked_at <= latest:
            question = queue.popleft()
            self._queued_keys -= question.keys
            self._breaker.abandoned()
            if not question.answer.done():
                question.answer.set_exception(StoreUnavailableError("pool_exhausted", "every connection is taken"))


def _of_ones_own(error: Exception) -> Exception:
    """The same trouble for one more caller: each raises its own, to whose traceback no other adds.

    Anything else than a store that is unavailable is a fault of our own, and told as it is.
    """
    if not isinstance(error, StoreUnavailableError):
        return error
    own = StoreUnavailableError(error.reason)
    own.args, own.__cause__ = error.args, error.__cause__
    return own
