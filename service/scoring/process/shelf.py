"""The models in the scorer process: each version once, whoever asked for it, loaded on a thread while the others serve."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from service.scoring.batch import Scores, ScoringRequest
from service.scoring.deadline_queue import DeadlineQueue
from service.scoring.errors import ScoringFailedError
from service.scoring.process.guest import Guest, Ticket
from service.scoring.process.messages import Load, Ready, Refused, refused

Run = Callable[[Sequence[ScoringRequest]], Sequence[Scores | ScoringFailedError]]


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A version that passed its checks and is warm.

    ``run`` gives each request its scores or its own error, and raises when it cannot tell whose fault it is. ``check`` raises
    ScoringFailedError for a request that does not fit the graph.
    """

    run: Run
    check: Callable[[ScoringRequest], None]
    inputs: tuple[str, ...]
    outputs: Mapping[str, int]
    provider: str
    digest: str


@dataclass(slots=True, eq=False)
class ServedModel:
    """An opened version with its waiting line."""

    name: str
    opened: OpenedModel
    queue: DeadlineQueue[Ticket] = field(default_factory=DeadlineQueue)


OpenVersion = Callable[[str, int], OpenedModel]
"""Loads an exact version; raises with the reason when it cannot serve."""

_Answer = tuple[Guest, Ready | Refused]


class Shelf:
    """Belongs to the scorer's loop; only the opening itself runs elsewhere. A version is dropped with its last holder."""

    def __init__(self, open_version: OpenVersion, *, wake: Callable[[], None]) -> None:
        """``wake`` is called on another thread when ``collect`` has something to do."""
        self._open_version = open_version
        self._wake = wake
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._served: dict[str, ServedModel] = {}
        self._waiting: dict[str, list[tuple[Guest, int]]] = {}
        self._opened: deque[tuple[str, Future[OpenedModel]]] = deque()

    @property
    def loading(self) -> bool:
        """Whether a version is being loaded."""
        return bool(self._waiting)

    def model(self, guest: Guest, handle: int) -> ServedModel | None:
        """What a guest's number for a model stands for; None while it is not loaded."""
        return self._served.get(guest.handles.get(handle, ""))

    def load(self, guest: Guest, wanted: Load) -> Ready | None:
        """Give a guest a version under its own number: at once when it is loaded already, else through ``collect``."""
        key = f"{wanted.name}@{wanted.version}"
        guest.handles[wanted.handle] = key
        served = self._served.get(key)
        if served is not None:
            return _ready(wanted.handle, served)
        if key not in self._waiting:
            self._waiting[key] = []
            opening = self._thread.submit(self._open_version, wanted.name, wanted.version)
            opening.add_done_callback(lambda done: self._finish(key, done))
        self._waiting[key].append((guest, wanted.handle))
        return None

    def unload(self, guest: Guest, handle: int) -> None:
        """The guest holds it no more under this number."""
        guest.handles.pop(handle, None)

    def collect(self) -> list[_Answer]:
        """Take in what was opened meanwhile: whom to tell what."""
        answers: list[_Answer] = []
        while self._opened:
            key, done = self._opened.popleft()
            waiting = self._waiting.pop(key, [])
            error = done.exception()
            if error is None:
                served = self._served[key] = ServedModel(key, done.result())
                answers += [(guest, _ready(handle, served)) for guest, handle in waiting]
                continue
            for guest, handle in waiting:
                guest.handles.pop(handle, None)
                answers.append((guest, refused(handle, str(error) or type(error).__name__)))
        return answers

    def sweep(self, guests: Sequence[Guest]) -> None:
        """Drop the versions that none of these guests holds; those that requests still wait for go with the last of them."""
        held = {key for guest in guests for key in guest.handles.values()}
        self._served = {key: served for key, served in self._served.items() if key in held}

    def close(self) -> None:
        """Load nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _finish(self, key: str, done: Future[OpenedModel]) -> None:
        self._opened.append((key, done))
        self._wake()


def _ready(handle: int, served: ServedModel) -> Ready:
    return Ready(handle, served.opened.provider, served.opened.digest)
