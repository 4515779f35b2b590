"""Views that declare events, an applier in memory, and the route over both as an application of its own."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import httpx
from fastapi import FastAPI

from feature_store.events.ports import Applied
from feature_store.views import FeatureViews
from service.api.events import event_routes
from service.api.problems import install_problem_answers
from service.ingestion.event_rules import EventRules
from service.ingestion.event_time import TimeRule
from service.ingestion.intake import EventIntake, IntakeLimits
from service.settings import RequestLimits
from service.telemetry import Telemetry

MAX_EVENTS = 150
COUNTED = {
    "rankline_events_total": "events",
    "rankline_event_refusals_total": "event",
    "rankline_event_requests_refused_total": "request",
}
EVENT = {"event_id": "e1", "user_id": 1, "item_id": 2, "type": "click"}


def make_views(time_unit="s", time_resolution=None, *, with_events=True):
    document = {
        "name": "shop",
        "tables": {"interactions": "i.csv", "users": "u.csv", "items": "t.csv"},
        "interactions": {"time": "time"},
        "user": {"key": "user"},
        "item": {"key": "item", "fields": [{"name": "item", "kind": "category"}]},
        "context": [
            {"name": "hour", "kind": "number"},
            {"name": "page", "kind": "category"},
            {"name": "tags", "kind": "categories"},
            {"name": "price", "kind": "number", "per": "candidate"},
        ],
        "labels": [{"name": "click", "column": "clicked"}],
    }
    if with_events:
        types = [
            {"name": "view", "example": True},
            {"name": "click", "sets": {"clicked": 1}},
            {"name": "rate", "value": "stars"},
        ]
        document["events"] = {"types": types, "time_unit": time_unit, "time_resolution": time_resolution}
    return FeatureViews.model_validate(document)


class MemoryApplier:
    """Applies at once; can be told to be ``behind`` (keeps, applies nothing), to raise ``error``, or to wait for ``gate``."""

    def __init__(self):
        self.kept = []
        self.timeouts = []
        self.seen = set()
        self.versions = Counter()
        self.backlog = 0
        self.behind = False
        self.error = None
        self.gate = None
        self.asked = asyncio.Semaphore(0)

    async def submit(self, events, timeout_s):
        self.timeouts.append(timeout_s)
        self.asked.release()
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.kept += events
        if self.behind:
            return None
        return [self._apply(event) for event in events]

    def _apply(self, event):
        fresh = (event.user_id, event.event_id) not in self.seen
        self.seen.add((event.user_id, event.event_id))
        self.versions[event.user_id] += fresh
        return Applied(fresh, self.versions[event.user_id])


class House:
    """The route and everything around it, as a client and an operator see them."""

    def __init__(self, *, views=None, max_requests=8, max_backlog=100, max_age_s=1e6, max_body_bytes=65_536):
        self.applier = MemoryApplier()
        self.telemetry = Telemetry()
        rules = EventRules(views or make_views(), TimeRule(60.0, max_age_s))
        limits = IntakeLimits(max_requests=max_requests, apply_timeout_s=0.25, max_backlog=max_backlog)
        self.intake = EventIntake(rules, self.applier, self.telemetry.events, limits)
        self.app = make_app(self.intake, max_body_bytes)

    async def post(self, content, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await post(self.app, body, **headers)

    def counted(self):
        """Every event metric that is not zero: {(name, sorted label values): value}."""
        counts = {}
        for family in self.telemetry.registry.collect():
            for sample in family.samples:
                if sample.name in COUNTED and sample.value:
                    counts[(COUNTED[sample.name], *sample.labels.values())] = int(sample.value)
        return counts


def make_app(intake, max_body_bytes=65_536):
    app = FastAPI()
    install_problem_answers(app)
    app.include_router(event_routes(intake, RequestLimits(max_body_bytes=max_body_bytes), MAX_EVENTS))
    return app


async def post(app, body, **headers):
    # A 500 must be seen as a client sees it, not as the exception behind it.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.post("/events", content=body, headers={"content-type": "application/json", **headers})
