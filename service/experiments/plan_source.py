"""Where the running plan comes from: the file, the last good plan, or the caller's fallback, and under which generation.

A plan becomes active in this order: read, check, take the lock, make sure the file still says the same, save as last good
under the next number, swap. Nothing is saved or swapped unless all before it went well, so a bad plan changes nothing. A
plan that equals the newest saved one takes over its number: that is how workers and restarts agree on generations.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from service.experiments.errors import PlanInvalidError, StateUnavailableError
from service.experiments.known_models import KnownModels
from service.experiments.last_good import AcceptedPlan, LastGoodDirectory, Newest, digest_of
from service.experiments.plan import ExperimentPlan, parse_plan
from service.experiments.plan_file import FileSignature, file_signature, read_plan_text

_READ_ATTEMPTS = 10
_NOT_LOADED = "no plan was loaded yet"


@dataclass(frozen=True, slots=True)
class ActivePlan:
    """The plan in force with its number; read it once per request.

    ``generation`` 0 is the caller's fallback and has no digest. ``loaded_at`` is when this process put it in force,
    ``saved_at`` when a process first accepted it (unix seconds). ``stale`` says why the file's plan is not the one in force.
    """

    plan: ExperimentPlan
    generation: int
    digest: str
    loaded_at: float
    saved_at: float | None
    stale: str | None


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What a reload came to: ``refused`` with every problem of the file, else ``changed`` or ``unchanged`` generation.

    ``active`` is in force afterwards in all three cases. A refused file may still bring in the last good plan of another
    worker or of an earlier process.
    """

    outcome: Literal["changed", "unchanged", "refused"]
    active: ActivePlan
    problems: tuple[str, ...] = ()


class PlanSource:
    """Holds the active plan and reloads it. ``reload`` blocks on files: call it in a thread. All methods are thread-safe."""

    def __init__(
        self,
        path: Path,
        state_directory: Path,
        check: KnownModels | None,
        *,
        fallback: ExperimentPlan,
        now: Callable[[], float] = time.time,
        lock_timeout_s: float = 10.0,
    ) -> None:
        self._path = path
        self._saved = LastGoodDirectory(state_directory)
        self._check = check
        self._now = now
        self._lock_timeout_s = lock_timeout_s
        self._reloading = threading.Lock()
        self._seen: tuple[FileSignature | None, int] | None = None
        self.active = ActivePlan(fallback, 0, "", now(), None, _NOT_LOADED)

    def has_changed(self) -> bool:
        """Whether the file, or the newest plan that another worker saved, differs from what the last reload saw.

        True before the first reload, and after one that failed for another reason than the plan itself.
        """
        seen = self._seen
        return seen is None or file_signature(self._path) != seen[0] or self._newest_generation() > seen[1]

    def reload(self) -> ReloadResult:
        """Put the file's plan in force; never raises for what a file or the state directory may hold.

        At start, and whenever the file is refused, a newer last good plan takes over, marked ``stale``; without one the active
        plan stays.
        """
        with self._reloading:
            signature, generation = file_signature(self._path), self._newest_generation()
            try:
                result = self._load_file()
                judged = True
            except PlanInvalidError as error:
                result, judged = self._refuse(error.problems), True
            except StateUnavailableError as error:
                result, judged = self._refuse((str(error),)), False
            self.active = result.active
            self._seen = (signature, max(generation, result.active.generation)) if judged else None
            return result

    def _load_file(self) -> ReloadResult:
        for _ in range(_READ_ATTEMPTS):
            text = read_plan_text(self._path)
            digest = digest_of(text)
            same_text = self.active.digest == digest
            plan = self.active.plan if same_text else parse_plan(text, self._check)
            accepted = self._numbered(text, digest)
            if accepted is not None:
                return self._put_in_force(plan, accepted)
        raise PlanInvalidError([f"{self._path}: was written {_READ_ATTEMPTS} times while being read"])

    def _numbered(self, text: str, digest: str) -> AcceptedPlan | None:
        """The accepted plan of this text: one that has a number, or saved now; None if the file changed meanwhile."""
        accepted = self._already_numbered(text, digest, self._saved.newest())
        if accepted is not None:
            return accepted
        with self._saved.locked(self._lock_timeout_s):
            if read_plan_text(self._path) != text:
                return None
            newest = self._saved.newest()
            accepted = self._already_numbered(text, digest, newest)
            if accepted is None:
                accepted = self._next(text, digest, newest)
                self._saved.save(accepted)
            return accepted

    def _already_numbered(self, text: str, digest: str, newest: Newest) -> AcceptedPlan | None:
        """The newest saved plan if it is this one; else the active one if it is, and somebody saved another plan since.

        Who saved it saw another file and will see this one: numbering again here could go on for ever between two files.
        """
        ours = self._as_accepted(text) if self.active.digest == digest else None
        saved = newest.accepted if newest.accepted is not None and newest.accepted.digest == digest else None
        if newest.generation > self.active.generation:
            return saved or ours
        return saved if newest.generation == self.active.generation and ours is not None else None

    def _next(self, text: str, digest: str, newest: Newest) -> AcceptedPlan:
        """The next number; or the active one, where the state directory lost what this process still runs."""
        ours = self._as_accepted(text) if self.active.digest == digest else None
        taken_by_another = newest.generation == self.active.generation and newest.accepted is not None
        if ours is not None and not taken_by_another:
            return ours
        return AcceptedPlan(max(newest.generation, self.active.generation) + 1, digest, self._now(), text)

    def _as_accepted(self, text: str) -> AcceptedPlan | None:
        active = self.active
        return None if active.saved_at is None else AcceptedPlan(active.generation, active.digest, active.saved_at, text)

    def _put_in_force(self, plan: ExperimentPlan, accepted: AcceptedPlan) -> ReloadResult:
        before = self.active
        if before.generation == accepted.generation and before.stale is None:
            return ReloadResult("unchanged", before)
        outcome: Literal["changed", "unchanged"] = "unchanged" if before.generation == accepted.generation else "changed"
        return ReloadResult(outcome, self._active(plan, accepted, stale=None))

    def _active(self, plan: ExperimentPlan, accepted: AcceptedPlan, stale: str | None) -> ActivePlan:
        return ActivePlan(plan, accepted.generation, accepted.digest, self._now(), accepted.saved_at, stale)

    def _refuse(self, problems: tuple[str, ...]) -> ReloadResult:
        """Keep the active plan, or take over a newer last good one; say what could not be used and why."""
        try:
            newest = self._saved.newest()
        except StateUnavailableError as error:
            newest = Newest(0, None, str(error))
        if newest.problem is not None:
            problems = (*problems, f"last good plan: {newest.problem}")
        if newest.accepted is not None and newest.generation > self.active.generation:
            try:
                plan = parse_plan(newest.accepted.text, self._check)
            except PlanInvalidError as error:
                problems = (*problems, *(f"last good plan: {problem}" for problem in error.problems))
            else:
                return ReloadResult(
                    "refused", self._active(plan, newest.accepted, self._last_good_serves(newest.accepted, problems)), problems
                )
        return ReloadResult("refused", self._kept(problems), problems)

    def _kept(self, problems: tuple[str, ...]) -> ActivePlan:
        if self.active.generation > 0:
            return self.active
        return replace(self.active, stale=f"the built-in plan without experiments serves: {_in_short(problems)}")

    def _last_good_serves(self, accepted: AcceptedPlan, problems: tuple[str, ...]) -> str:
        age_s = max(0.0, self._now() - accepted.saved_at)
        return f"the last good plan serves, accepted {age_s:.0f} s ago: {_in_short(problems)}"

    def _newest_generation(self) -> int:
        try:
            return self._saved.newest_generation()
        except StateUnavailableError:
            return 0


def _in_short(problems: tuple[str, ...]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return problems[0] + more
