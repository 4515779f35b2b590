"""What serves now: a plan and its models as one immutable snapshot, replaced only by one that was checked, loaded and warm.

A reload goes: the plan source reads the file and asks about every model it names; asking loads and checks the model beside
those that serve; only then is the plan saved and in force, and the snapshot is swapped by one assignment. ``latest`` moves the
same way when a new version is published. Whatever fails on the way, the snapshot in force stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from models.repository import ModelReference, RepositoryError, VersionRefusedError
from service.errors import StartupError
from service.experiments.params import Params
from service.experiments.plan import ExperimentPlan
from service.experiments.plan_source import ActivePlan, PlanSource, ReloadResult
from service.ranking.ports import Snapshot
from service.ranking.ranker import known_fields
from service.scoring.errors import ModelsUnavailableError
from service.scoring.loaded_model import LoadedModel
from service.scoring.loaded_models import LoadedModels

_LOAD_TIMEOUT_S = 600.0
_log = logging.getLogger("rankline.activation")


class ActivationObserver(Protocol):
    """Told what is in force; must not raise or block."""

    def reloaded(self, outcome: str) -> None: ...
    def state_changed(self, models: Iterable[tuple[str, str, str, str]], generation: int, *, stale: bool) -> None: ...


class LoadingCheck:
    """A plan's question "can this model serve?", answered by loading it beside those that serve.

    Asked on the plan source's thread; the loading itself belongs to the event loop.
    """

    def __init__(self, models: LoadedModels) -> None:
        self._models = models
        self.loop: asyncio.AbstractEventLoop | None = None

    def score_names(self, reference: ModelReference) -> tuple[str, ...]:
        """The model's scores.

        Raises:
            RepositoryError: the model cannot be served; the message says why.
        """
        assert self.loop is not None, "the activation was started"
        future = asyncio.run_coroutine_threadsafe(self._load(reference), self.loop)
        try:
            return future.result(_LOAD_TIMEOUT_S).score_names
        except ModelsUnavailableError as error:
            raise VersionRefusedError(next(iter(error.reasons.values()))) from None
        except TimeoutError:
            raise VersionRefusedError(f"{reference}: was not loaded within {_LOAD_TIMEOUT_S:.0f} s") from None

    async def _load(self, reference: ModelReference) -> LoadedModel:
        models = await self._models.load({*self._models.active, reference})
        return models[reference]


class Activation:
    """Holds the snapshot in force and replaces it."""

    def __init__(
        self,
        *,
        plan_source: Callable[[LoadingCheck, ExperimentPlan], PlanSource],
        fallback_model: str | None,
        models: LoadedModels,
        observer: ActivationObserver,
        on_swap: Callable[[Snapshot], None],
    ) -> None:
        self._check = LoadingCheck(models)
        self._fallback_model = fallback_model
        fallback = ExperimentPlan(Params(fallback_model or "no-model-chosen@latest"))
        self._plans = plan_source(self._check, fallback)
        self._models = models
        self._observer = observer
        self._on_swap = on_swap
        self._reloading = asyncio.Lock()
        self._refusals_told = 0
        self._snapshot: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The plan and models in force.

        Raises:
            StartupError: ``start`` was not awaited.
        """
        if self._snapshot is None:
            raise StartupError("nothing is in force yet")
        return self._snapshot

    async def start(self) -> None:
        """Put the first plan in force.

        Raises:
            StartupError: there is no usable plan and no fallback model, or a model cannot be loaded.
        """
        self._check.loop = asyncio.get_running_loop()
        result = await asyncio.to_thread(self._plans.reload)
        if result.active.generation == 0 and self._fallback_model is None:
            problems = "\n".join(result.problems)
            raise StartupError(f"no usable plan, and no RANKLINE_MODELS__FALLBACK to serve without one:\n{problems}")
        try:
            await self._swap(result.active)
        except ModelsUnavailableError as error:
            raise StartupError(f"the plan's models cannot be served:\n{error}") from None
        self._log_result(result)

    async def reload(self) -> ReloadResult:
        """Read the plan again; concurrent calls take turns. Never raises for what the file or the repository hold."""
        async with self._reloading:
            result = await asyncio.to_thread(self._plans.reload)
            try:
                await self._swap(result.active)
            except ModelsUnavailableError as error:
                # A version of ``latest`` that appeared between check and swap; the watch swaps again until it works.
                result = ReloadResult("refused", self.snapshot.active, tuple(str(error).splitlines()))
            self._log_result(result)
            self._observer.reloaded(result.outcome)
            return result

    async def watch(self, poll_s: float) -> None:
        """Follow the plan file and newly published versions until cancelled."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                behind = self.snapshot.active is not self._plans.active
                if behind or await asyncio.to_thread(self._plans.has_changed):
                    await self.reload()
                await self._follow_latest()
            except Exception:
                # A watcher that dies would freeze the plan for ever; whatever it met, it looks again.
                _log.exception("watching failed")

    async def _swap(self, active: ActivePlan) -> None:
        """Load what the plan names and nothing else, then replace the snapshot.

        Raises:
            ModelsUnavailableError: a model cannot be loaded; the snapshot stays.
        """
        references = [ModelReference.parse(text) for text in active.plan.models]
        try:
            loaded = await self._models.load(references)
        finally:
            self._tell_refusals()
        models = {str(reference): model for reference, model in loaded.items()}
        self._snapshot = Snapshot(active, models, known_fields(models))
        self._on_swap(self._snapshot)
        labels = {(each.name, str(each.version), each.digest, each.provider) for each in models.values()}
        self._observer.state_changed(labels, active.generation, stale=active.stale is not None)

    async def _follow_latest(self) -> None:
        """Take up a newer version of a model that the plan names as ``latest``; one that is refused is passed over."""
        async with self._reloading:
            snapshot = self.snapshot
            serving = _versions_of(snapshot)
            if await asyncio.to_thread(self._newest_versions, snapshot) == serving:
                return
            await self._swap(snapshot.active)
            if _versions_of(self.snapshot) != serving:
                _log.info("new version serves", extra={"models": sorted(map(str, self._models.active))})
                self._observer.reloaded("new_version")

    def _newest_versions(self, snapshot: Snapshot) -> dict[str, ModelReference]:
        """What each reference stands for now; one whose versions were removed keeps what serves."""
        newest = _versions_of(snapshot)
        for text in newest:
            with contextlib.suppress(RepositoryError):
                newest[text] = self._models.newest(ModelReference.parse(text))
        return newest

    def _tell_refusals(self) -> None:
        refused = list(self._models.refused.items())
        for reference, reason in refused[self._refusals_told :]:
            _log.error("version refused", extra={"version": str(reference), "reason": reason})
            self._observer.reloaded("version_refused")
        self._refusals_told = len(refused)

    def _log_result(self, result: ReloadResult) -> None:
        active = result.active
        details = {"outcome": result.outcome, "generation": active.generation, "digest": active.digest, "stale": active.stale}
        if result.problems:
            _log.error("plan refused", extra={**details, "problems": list(result.problems)})
        else:
            _log.info("plan in force", extra=details)


def _versions_of(snapshot: Snapshot) -> dict[str, ModelReference]:
    return {text: ModelReference(model.name, model.version) for text, model in snapshot.models.items()}
