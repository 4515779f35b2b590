"""Admin routes: present only when a token is configured, authorized by a route dependency."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import APIRouter, Depends

from service.api.authentication import AdminToken
from service.api.schemas import Problem

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid admin token", "model": Problem, "content": {"application/problem+json": {}}},
    422: {"description": "The plan was refused", "model": Problem, "content": {"application/problem+json": {}}},
}


class Administration(Protocol):
    """What admins may see and do."""

    async def reload_plan(self) -> dict[str, Any]: ...
    def describe_plan(self) -> dict[str, Any]: ...
    def describe_models(self) -> list[dict[str, Any]]: ...


def admin_routes(administration: Administration, token: AdminToken) -> APIRouter:
    """The routes under ``/admin``."""
    router = APIRouter(prefix="/admin", dependencies=[Depends(token.check)], responses=_PROBLEMS)

    @router.post("/experiments/reload", summary="Read the plan file again and put it in force if it is valid")
    async def reload_plan() -> dict[str, Any]:
        return await administration.reload_plan()

    @router.get("/experiments/plan", summary="The plan in force")
    async def plan() -> dict[str, Any]:
        return administration.describe_plan()

    @router.get("/models", summary="The loaded model versions")
    async def models() -> list[dict[str, Any]]:
        return administration.describe_models()

    return router
