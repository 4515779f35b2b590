"""mosec: one worker process behind its Rust server, dynamic batching, bytes in and out.

``python -m loadtest.peers.mosec_app --port N``. Its shortest wait for a batch is 1 ms.
"""

from __future__ import annotations

import os

import redis
from mosec import Server, Worker  # type: ignore[import-not-found]

from loadtest.peers.features import BATCH, STORE, WAIT_MS, Answer, Asked, Ranking, read_asked, setting, write_answer


class Ranker(Worker):  # type: ignore[misc]
    """Reads, ranks and writes; mosec runs the three one after the other for each batch."""

    resp_mime_type = "application/json"

    def __init__(self) -> None:
        super().__init__()
        self._ranking = Ranking.of_environment()
        self._store = redis.Redis.from_url(os.environ[STORE])

    def deserialize(self, data: bytes) -> Asked:
        """A request's body."""
        return read_asked(data)

    def forward(self, data: list[Asked]) -> list[Answer]:
        """A batch."""
        return self._ranking.rank(data, self._store.mget(self._ranking.keys(data)))

    def serialize(self, data: Answer) -> bytes:
        """An answer's body."""
        return write_answer(data)


class RankerOfOne(Ranker):
    """Without batching: mosec hands over requests one by one."""

    def forward(self, data: Asked) -> Answer:  # type: ignore[override]
        """A request."""
        return super().forward([data])[0]


if __name__ == "__main__":
    server, batch = Server(), setting(BATCH, 8)
    if batch > 1:
        server.append_worker(Ranker, num=1, max_batch_size=batch, max_wait_time=setting(WAIT_MS, 1), route="/rank")
    else:
        server.append_worker(RankerOfOne, num=1, route="/rank")
    server.run()
