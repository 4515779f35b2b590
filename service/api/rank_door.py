"""The door before the framework: ``POST /rank`` costs what a plain ASGI application costs, everything else goes its old way."""

from __future__ import annotations

import time
from collections.abc import Mapping

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler, Receive, Scope, Send

from service.api.rank_endpoint import PATH, RankEndpoint
from service.request_metrics import RequestObserver

_POST = "POST"


class RankDoor:
    """Pure ASGI: takes ``POST /rank``; the rest, the lifespan included, is the framework's.

    Errors are answered by the application's own table, the same objects, here and not in a thread: its answers are made of a
    few lines. Under a root path the framework's router finds the same endpoint.
    """

    def __init__(self, app: FastAPI, endpoint: RankEndpoint, observer: RequestObserver) -> None:
        self._app = app
        self._endpoint = endpoint
        self._observer = observer
        self._problems: Mapping[type[Exception], ExceptionHandler] = app.exception_handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on. What nobody expected is logged, answered as 500 and raised: the server is to know, too."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != _POST or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0
        try:
            content, media = await self._endpoint.answer(scope, receive)
            status = 200
            headers = [(b"content-length", b"%d" % len(content)), (b"content-type", media)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})
        except Exception as error:
            is_expected, response = self._problem(scope, error)
            if not status:
                status = response.status_code
                await response(scope, receive, send)
            if not is_expected:
                raise
        finally:
            self._observer.requested(PATH, _POST, status, time.monotonic() - started)

    def _problem(self, scope: Scope, error: Exception) -> tuple[bool, Response]:
        """Whether the table knows errors of this kind in particular, and its answer."""
        for kind in type(error).__mro__:
            if kind in self._problems:
                response: Response = self._problems[kind](Request(scope), error)  # type: ignore[arg-type, assignment]
                return kind is not Exception, response
        raise error
