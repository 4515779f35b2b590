"""An application with only ``POST /rank``, over a ranker that answers what it is told; and the encoding that was before."""

import json

import httpx
import msgspec
from fastapi import FastAPI

from service.api.authentication import AdminToken
from service.api.problems import install_problem_answers
from service.api.rank import add_rank_route
from service.ranking.query import Answer, ArmTaken, Freshness, ModelUsed
from service.settings import RequestLimits

LIMITS = RequestLimits(max_body_bytes=4_096, body_timeout_s=0.05, max_candidates=300, max_timeout_ms=1_000)
FRESHNESS = Freshness(True, 1, 2, 3, 4, False, 0, 0, ("hour",), (), ())
GOOD = {"user_id": 1, "candidates": [3, "b", 5]}
URL = "/rank"


def an_answer(order, scores=None, **changes):
    whole = {
        "order": order,
        "ranked_by": next(iter(scores)) if scores else "click",
        "scores": scores,
        "model": ModelUsed("din", 2, "d" * 64),
        "arms": (ArmTaken("layer", "experiment", "arm", 5, 7, False),),
        "generation": 7,
        "freshness": FRESHNESS,
        "degraded": None,
        "timings_ms": {},
    }
    return Answer(**{**whole, **changes})


class StubRanker:
    """Answers the candidates in reverse with scores 0.5, 1.5, ...; or raises ``failure``. Remembers the queries."""

    def __init__(self, failure=None):
        self.failure = failure
        self.queries = []

    async def rank(self, query, clock):
        self.queries.append(query)
        if self.failure is not None:
            raise self.failure
        clock.lap("score")
        order = list(range(len(query.candidates)))[::-1][: query.top_k]
        scores = {"click": [place + 0.5 for place in order], "like": [0.25] * len(order)}
        return an_answer(order, scores, timings_ms=clock.timings_ms)


class StageLog:
    """Stages, and requests without their durations."""

    def __init__(self):
        self.seen = []
        self.requests = []

    def requested(self, route, method, status, seconds):
        assert seconds >= 0
        self.requests.append((route, method, status))

    def stages_done(self, timings_ms, /):
        self.seen.append(dict(timings_ms))


class RankHouse:
    """The application behind its door, and a client that never raises what the service raises."""

    def __init__(self, failure=None, *, limits=LIMITS, token=None, offer=None):
        self.ranker = StubRanker(failure)
        self.stages = StageLog()
        self.app = FastAPI(title="Rankline", summary="Ranks candidates for a user", version="0.1.0", redirect_slashes=False)
        install_problem_answers(self.app)
        admin = None if token is None else AdminToken(token)
        self.door = add_rank_route(self.app, self.ranker, limits, admin, self.stages, offer=offer)

    async def call(self, method, path, **kwargs):
        transport = httpx.ASGITransport(self.door, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **kwargs)

    async def post(self, body, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
        return await self.call("POST", URL, content=content, headers=named)


def document_before(call, answer, timings_ms):
    """The answer as it was made before there was an encoder for it: plain objects, one by one."""
    wire_ids = list(map(int, call.query.candidates)) if call.ids is None else call.ids
    items = []
    for rank, place in enumerate(answer.order):
        item = {"id": wire_ids[place], "score": None}
        if answer.scores is not None:
            item["score"] = answer.scores[answer.ranked_by][rank]
            item.update({name: values[rank] for name, values in answer.scores.items()})
            if answer.attention is not None:
                item["attention"] = answer.attention[rank]
        items.append(item)
    document = {
        "request_id": call.query.request_id,
        "user_id": call.user_id,
        "items": items,
        "ranked_by": answer.ranked_by,
        "model": answer.model,
        "experiments": answer.arms,
        "generation": answer.generation,
        "freshness": answer.freshness,
        "degraded": answer.degraded,
    }
    if answer.attention_history is not None:
        document["attention_history"] = answer.attention_history
    document["timings_ms"] = {stage: round(value, 4) for stage, value in timings_ms.items()}
    return json.loads(msgspec.json.encode(document))
