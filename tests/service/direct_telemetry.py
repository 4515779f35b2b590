"""The oracle of the tallies: the same calls written into the metrics at once, one ``labels(...)`` each."""

from __future__ import annotations

import random
import sys

from service.ranking.query import Answer, ArmTaken, Degraded, Freshness, ModelUsed
from service.telemetry import Telemetry


class DirectTelemetry(Telemetry):
    """Counts nothing aside."""

    def answered(self, answer, candidates):
        model = self._models(f"{answer.model.name}@{answer.model.version}")
        seconds = sum(answer.timings_ms.values()) / 1e3
        for arm in [f"{arm.experiment}/{arm.arm}" for arm in answer.arms] or ["none"]:
            self.answer_seconds.labels(model, self._arms(arm)).observe(seconds)
        self.candidates.observe(candidates)
        if answer.degraded is not None:
            self.degraded.labels(answer.degraded.level, self._reasons(answer.degraded.reason)).inc()
        told = answer.freshness
        statuses = {"stale": told.stale, "refused": told.refused}
        if told.user_known is not None:
            statuses["missing"] = told.missing
            if not told.user_known:
                self.unknown.labels("user").inc()
            if told.unknown_candidates:
                self.unknown.labels("item").inc(told.unknown_candidates)
        for status, fields in statuses.items():
            for field in fields:
                self.missing.labels(self._fields(field), status).inc()

    def stages_done(self, timings_ms):
        for stage, milliseconds in timings_ms.items():
            self.stage_seconds.labels(stage).observe(milliseconds / 1e3)

    def requested(self, route, method, status, seconds):
        self.requests.labels(route, method, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def batch_scored(self, model, *, requests, rows, seconds):
        label = self._models(model)
        self.batch_rows.labels(label).observe(rows)
        self.batch_requests.labels(label).inc(requests)
        self.batch_seconds.labels(label).observe(seconds)

    def queue_depth(self, model, *, rows):
        self.queue_rows.labels(self._models(model)).set(rows)


def use(telemetry: Telemetry, seed: int, calls: int = 300) -> None:
    """Calls as a service makes them, the same for a seed. Times are multiples of 2**-14 s: their sums are exact."""
    rng = random.Random(seed)
    for number in range(calls):
        model = rng.choice(["din@1", "deepfm@2", f"many@{number}"])
        telemetry.queue_depth(model, rows=rng.choice([0, 1, 300]))
        telemetry.batch_scored(model, requests=rng.randint(1, 3), rows=rng.choice([1, 8, 9, 50_000]), seconds=_seconds(rng))
        stages = {stage: 1e3 * _seconds(rng) for stage in ("parse", "assign", "fetch", "score")}
        telemetry.answered(_answer(rng, model, number, stages), rng.choice([1, 200, 20_000]))
        telemetry.stages_done(stages)
        telemetry.requested(rng.choice(["/rank", "other"]), "POST", rng.choice([0, 200, 429]), _seconds(rng))


def _seconds(rng: random.Random) -> float:
    return rng.choice([0, 1, 2, 8, 2**13, 2**14, rng.randint(0, 2**18)]) / 2**14


def _answer(rng: random.Random, model: str, number: int, stages: dict[str, float]) -> Answer:
    arms = [
        ArmTaken("layer", f"e{each}", rng.choice(["a", "b", f"c{number}"]), 1, 1, False) for each in range(rng.randint(0, 3))
    ]
    fields = tuple(rng.sample(["age", "town", "price", f"field-{number}"], rng.randint(0, 3)))
    known = rng.choice([True, False, None])
    freshness = Freshness(known, None, 0, None, None, False, rng.randint(0, 2), 0, fields, fields[:1], fields[1:])
    degraded = rng.choice([None, Degraded("input_order", rng.choice(["deadline", f"reason-{number}"]), 0, 1)])
    name, version = model.split("@")
    return Answer([], "ctr", None, ModelUsed(name, int(version), "d"), tuple(arms), 1, freshness, degraded, stages)


if __name__ == "__main__":
    kind, seed, what = sys.argv[1:]
    used = {"direct": DirectTelemetry, "tallied": Telemetry}[kind]()
    if what != "render":
        use(used, int(seed))
        used.carry()
    if what != "leave":
        sys.stdout.write(used.render().decode())
