"""LitServe: one API process, one worker process, greedy batching (no wait was its fastest here), its faster queue.

``python -m loadtest.peers.litserve_app --port N``.
"""

import argparse
import os
from typing import Any

import litserve  # type: ignore[import-not-found]
import msgspec
import redis
from fastapi import Request, Response

from loadtest.peers.features import BATCH, STORE, WAIT_MS, Answer, Asked, Ranking, setting, write_answer


class Ranker(litserve.LitAPI):  # type: ignore[misc]
    """The framework has parsed the JSON when it comes here."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """In the worker's process."""
        self._ranking = Ranking.of_environment()
        self._store = redis.Redis.from_url(os.environ[STORE])

    def decode_request(self, request: Request) -> Asked:
        """A request's body: what comes is its JSON, read, whatever the annotation says that the framework goes by."""
        return msgspec.convert(request, Asked)

    def batch(self, inputs: list[Asked]) -> list[Asked]:
        """A batch stays a list."""
        return inputs

    def predict(self, batch: Any) -> Any:
        """A batch, or one request where batching is off."""
        if isinstance(batch, list):
            return self._ranking.rank(batch, self._store.mget(self._ranking.keys(batch)))
        return self._ranking.rank([batch], self._store.mget(self._ranking.keys([batch])))[0]

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """The answers of a batch."""
        return output

    def encode_response(self, output: Answer) -> Response:
        """An answer's body."""
        return Response(write_answer(output), media_type="application/json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    api = Ranker(max_batch_size=setting(BATCH, 8), batch_timeout=setting(WAIT_MS, 0) / 1e3, api_path="/rank")
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=parser.parse_args().port, num_api_servers=1, generate_client_file=False, log_level="warning"
    )
