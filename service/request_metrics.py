"""HTTP requests counted by route template, method and status."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metric_labels import OTHER

_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})


class RequestObserver(Protocol):
    """Told of every request, on the event loop; must not raise or block."""

    def requested(self, route: str, method: str, status: int, seconds: float) -> None: ...


class RequestMetrics:
    """Pure ASGI: tells of every HTTP request once it is over."""

    def __init__(self, app: ASGIApp, telemetry: RequestObserver) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure the request; a request that ends without an answer counts as status 0."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        started = time.monotonic()

        def watch(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", OTHER)
            method = scope["method"] if scope["method"] in _METHODS else OTHER
            self._telemetry.requested(route, method, status, time.monotonic() - started)
