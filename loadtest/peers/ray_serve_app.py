"""Ray Serve: one replica, ``serve.batch``, HAProxy in front and the options for throughput (see ``start.py``).

Run by ``main`` of this module as imported, not as a script.
"""

from __future__ import annotations

import argparse
import os
import signal

import ray  # type: ignore[import-not-found]
import redis.asyncio as redis
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from loadtest.peers.features import BATCH, STORE, WAIT_MS, Answer, Asked, Ranking, read_asked, setting, write_answer


@serve.deployment(num_replicas=1, max_ongoing_requests=1_000, ray_actor_options={"num_cpus": 1})
class Ranker:
    """Bytes in and out; nothing is validated that the ranking does not need."""

    def __init__(self) -> None:
        self._ranking = Ranking.of_environment()
        self._store = redis.Redis.from_url(os.environ[STORE])

    @serve.batch(  # type: ignore[untyped-decorator]
        max_batch_size=setting(BATCH, 8), batch_wait_timeout_s=setting(WAIT_MS, 1) / 1e3
    )
    async def rank(self, batch: list[Asked]) -> list[Answer]:
        """A batch."""
        return self._ranking.rank(batch, await self._store.mget(self._ranking.keys(batch)))

    async def __call__(self, request: Request) -> Response:
        """One request."""
        answer = await self.rank(read_asked(await request.body()))
        return Response(write_answer(answer), media_type="application/json")


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    # One core is there; Ray counts the proxy and the controller as none.
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": parser.parse_args().port, "access_log": False})
    app = Ranker.options(logging_config={"enable_access_log": False}).bind()  # type: ignore[attr-defined]
    serve.run(app, route_prefix="/rank")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
