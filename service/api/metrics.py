"""``GET /metrics`` in the Prometheus text format."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service.telemetry import Telemetry


def metrics_routes(telemetry: Telemetry) -> APIRouter:
    """The scrape route; with several workers any of them answers for all."""
    router = APIRouter()

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    def metrics() -> Response:
        return Response(telemetry.render(), media_type=CONTENT_TYPE_LATEST)

    return router
