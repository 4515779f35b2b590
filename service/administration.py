"""What operators may ask: which plan and models are in force, whether the process can score now, and "reload"."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from feature_store.errors import StoreUnavailableError
from service.activation import Activation
from service.errors import ReloadRefusedError
from service.experiments.plan_description import describe_plan
from service.experiments.plan_source import ActivePlan
from service.scoring.errors import DeadlinePassedError, OverloadedError, ScoringError
from service.scoring.loaded_model import LoadedModel
from service.scoring.loaded_models import LoadedModels

_GOLDEN_TIMEOUT_S = 1.0


class Administration:
    """Behind the admin routes."""

    def __init__(self, activation: Activation, models: LoadedModels) -> None:
        self._activation = activation
        self._models = models

    async def reload_plan(self) -> dict[str, Any]:
        """Reload now.

        Raises:
            ReloadRefusedError: the file's plan has problems; all are listed.
        """
        result = await self._activation.reload()
        if result.outcome == "refused":
            raise ReloadRefusedError(result.problems)
        return {"outcome": result.outcome, **_summary(result.active)}

    def describe_plan(self) -> dict[str, Any]:
        """The plan in force, in full."""
        active = self._activation.snapshot.active
        return {**_summary(active), "plan": describe_plan(active.plan)}

    def describe_models(self) -> list[dict[str, Any]]:
        """The loaded versions, with what their training measured."""
        return [_describe_model(model) for model in self._models.active.values()]


class ReadinessReport:
    """Scores every model's golden rows and pings the store.

    A lost store degrades answers and a full queue refuses some; neither makes the process unready, or a fleet would leave
    its load balancer all at once.
    """

    def __init__(self, activation: Activation, models: LoadedModels, ping_store: Callable[[], Awaitable[None]]) -> None:
        self._activation = activation
        self._models = models
        self._ping_store = ping_store

    async def report(self) -> tuple[bool, dict[str, Any]]:
        """Ready or not, and the state of every part."""
        active = self._models.active
        states = dict(zip(map(str, active), await asyncio.gather(*map(_golden_state, active.values())), strict=True))
        ready = bool(states) and all(state["status"] in ("ok", "busy") for state in states.values())
        return ready, {
            "status": "ready" if ready else "not ready",
            "models": states,
            "store": await self._store_state(),
            "plan": _summary(self._activation.snapshot.active),
        }

    async def _store_state(self) -> str:
        try:
            await self._ping_store()
        except StoreUnavailableError as error:
            return error.reason
        return "ok"


async def _golden_state(model: LoadedModel) -> dict[str, Any]:
    state: dict[str, Any] = {"provider": model.provider}
    try:
        error = await model.check_golden(time.monotonic() + _GOLDEN_TIMEOUT_S)
    except (DeadlinePassedError, OverloadedError):
        return {**state, "status": "busy"}
    except ScoringError:
        return {**state, "status": "failed"}
    return {**state, "status": "ok", "golden_error": error}


def _describe_model(model: LoadedModel) -> dict[str, Any]:
    training = model.manifest.training
    return {
        "name": model.name,
        "version": model.version,
        "digest": model.digest,
        "provider": model.provider,
        "network": training.network,
        "run_id": training.run_id,
        "scores": list(model.score_names),
        "metrics": training.metrics,
        "parity_error": model.manifest.parity.largest,
    }


def _summary(active: ActivePlan) -> dict[str, Any]:
    return {"generation": active.generation, "digest": active.digest, "stale": active.stale}
