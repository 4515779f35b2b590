"""``GET /health/live`` answers while the process runs; ``GET /health/ready`` says whether it can score now, and with what."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from fastapi import APIRouter
from starlette.responses import Response


class Readiness(Protocol):
    """Asks the parts of the service how they are."""

    async def report(self) -> tuple[bool, dict[str, Any]]: ...


def health_routes(readiness: Readiness) -> APIRouter:
    """The two health routes."""
    router = APIRouter(prefix="/health")

    @router.get("/live", summary="The process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get(
        "/ready",
        summary="Every model scores its golden rows; the store's state is told but does not decide",
        responses={503: {"description": "Not ready"}},
    )
    async def ready() -> Response:
        is_ready, report = await readiness.report()
        return Response(msgspec.json.encode(report), 200 if is_ready else 503, media_type="application/json")

    return router
