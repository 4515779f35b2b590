"""Stand-ins for what surrounds the batcher: an executor that runs when told to, and an observer that remembers."""

from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any


class SteppedExecutor(Executor):
    """Runs nothing until ``step``: every interleaving a test needs, without threads or sleeps."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self.stopped = False

    def submit(self, function, /, *args, **kwargs):
        if self.stopped:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: function(*args, **kwargs)))
        return future

    def step(self) -> None:
        """Run the oldest piece of work to its end."""
        self.start()()

    def start(self) -> Callable[[], None]:
        """Run the oldest piece of work; it ends, for everyone else, when the result is called."""
        future, work = self.waiting.popleft()
        if not future.set_running_or_notify_cancel():
            return lambda: None
        try:
            result = work()
        except BaseException as error:
            return partial(future.set_exception, error)
        return partial(future.set_result, result)

    def cancel_all(self) -> None:
        """What ``shutdown(cancel_futures=True)`` does."""
        self.stopped = True
        while self.waiting:
            future, _ = self.waiting.popleft()
            future.cancel()
            future.set_running_or_notify_cancel()


class RecordingObserver:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int, int]] = []
        self.failed: Counter[str] = Counter()
        self.depths: list[int] = []

    def batch_scored(self, model: str, *, requests: int, rows: int, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append((model, requests, rows))

    def requests_failed(self, model: str, *, requests: int) -> None:
        self.failed[model] += requests

    def queue_depth(self, model: str, *, rows: int) -> None:
        self.depths.append(rows)
