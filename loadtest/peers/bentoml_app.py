"""BentoML: one worker process with adaptive batching. ``python -m bentoml serve loadtest.peers.bentoml_app:Ranker``.

A batchable API of BentoML takes and gives lists: a client would send ``{"asked":[{...}]}``. Ours sends ``{...}``, so the
rest is put around it here, which is cheaper than the second service that the documentation has for this.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any

import bentoml  # type: ignore[import-not-found]
import redis.asyncio as redis

from loadtest.peers.features import BATCH, STORE, WAIT_MS, Asked, Ranking, setting

Message = MutableMapping[str, Any]
# With its type named, BentoML need not make a JSON schema for every answer to find it out.
Answers = Annotated[list[dict[str, Any]], bentoml.validators.ContentType("application/json")]


class AsList:
    """Makes the body of ``/rank`` a list of one."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] != "/rank":
            await self._app(scope, receive, send)
            return
        parts, more = [b'{"asked":['], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join([*parts, b"]}"])

        async def whole() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
        await self._app({**scope, "headers": [*headers, (b"content-length", b"%d" % len(body))]}, whole, send)


@bentoml.service(workers=1, traffic={"timeout": 30}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Ranker:
    """The event loop reads the store; the graph runs on it, too: there is one core."""

    def __init__(self) -> None:
        self._ranking = Ranking.of_environment()
        self._store = redis.Redis.from_url(os.environ[STORE])

    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True, route="/rank", max_batch_size=setting(BATCH, 8), max_latency_ms=setting(WAIT_MS, 1_000)
    )
    async def rank(self, asked: list[dict[str, Any]]) -> Answers:
        """A batch."""
        batch = [Asked(each["user_id"], each["candidates"], each.get("top_k", 20), each.get("context", {})) for each in asked]
        return self._ranking.rank(batch, await self._store.mget(self._ranking.keys(batch)))


Ranker.add_asgi_middleware(AsList)  # type: ignore[attr-defined]
