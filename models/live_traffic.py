"""Made traffic for a running service: visits that rank, are seen, and click, late or twice at times, as clients do."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import polars as pl

from feature_store.encoding.values import RawValue
from feature_store.event_types import EventType
from feature_store.tables import ITEM_KEY, USER_KEY, EntityTables
from feature_store.views import FeatureViews
from models.skew import SkewError

_MOST_CANDIDATES = 5
_CLICKED, _LATE, _SENT_TWICE = 0.3, 0.2, 0.1
_LATEST_S = 3_600.0
_BEST_VALUE = 5.0


@dataclass(frozen=True, slots=True)
class ServedScore:
    """One score as it was served; ``time_us`` is when the item was seen, in microseconds since 1970, as events keep it."""

    time_us: int
    user: str
    item: str
    model: str
    score: float


class LiveTraffic:
    """Makes requests and events; keeps every score that was answered.

    Raises:
        SkewError: the views declare no events to make.
    """

    def __init__(self, views: FeatureViews, tables: EntityTables, draw: random.Random, client: httpx.AsyncClient) -> None:
        self.served: list[ServedScore] = []
        self.events = 0
        self._views = views
        self._interactions = tables.interactions
        self._users: list[str] = tables.users[USER_KEY].to_list()
        self._items: list[str] = tables.items[ITEM_KEY].to_list()
        self._draw = draw
        self._client = client
        self._numbers = 0
        self._seen: set[tuple[int, str, str]] = set()
        self._resolution_us = 1 if views.events is None else views.events.resolution_us
        declared = () if views.events is None else views.events.types
        shown = next((kind for kind in declared if kind.example), None)
        clicked = next((kind for kind in declared if views.history.takes(kind.row(_BEST_VALUE))), None)
        if shown is None or clicked is None:
            raise SkewError("the views must declare an event type with example: true, and one that enters the history")
        self._shown: EventType = shown
        self._clicked: EventType = clicked

    async def one_visit(self) -> None:
        """A ranking, what was seen of it, and perhaps a click that the next one must know."""
        user = self._draw.choice(self._users)
        candidates = self._draw.sample(self._items, self._draw.randint(1, min(_MOST_CANDIDATES, len(self._items))))
        request = self._context([each.name for each in self._views.request_fields])
        fields = [each.name for each in self._views.candidate_fields]
        contexts = {item: self._context(fields) for item in candidates}
        columns = {name: [contexts[item][name] for item in candidates] for name in fields}
        body = {"user_id": user, "candidates": candidates, "context": request, "candidate_features": columns}
        answer = await self._rank({**body, "timeout_ms": 10_000})
        version = answer["freshness"]["history_version"]
        model = f"{answer['model']['name']}@{answer['model']['version']}"
        seen_us = time.time_ns() // 1_000
        seen_us -= seen_us % self._resolution_us
        events = []
        for item in answer["items"]:
            if not self._first_at(seen_us, user, item["id"]):
                continue
            self.served.append(ServedScore(seen_us, user, item["id"], model, item["score"]))
            context = {**request, **contexts[item["id"]]}
            told = {"time": seen_us / 1e6, "history_version": version, "context": context}
            events.append(self._event(self._shown, user, item["id"], answer, **told))
        if self._draw.random() < _CLICKED:
            late_s = self._draw.uniform(0, _LATEST_S) if self._draw.random() < _LATE else 0.0
            events.append(self._event(self._clicked, user, self._draw.choice(candidates), answer, time=time.time() - late_s))
        if not events:
            return
        if self._draw.random() < _SENT_TWICE:
            await self._post(events)
        await self._post(events)
        self.events += len(events)

    def _first_at(self, seen_us: int, user: str, item: str) -> bool:
        """Rows are told apart by time, user and item: what is seen again at the same time as events keep it counts once."""
        key = (seen_us, user, item)
        fresh = key not in self._seen
        self._seen.add(key)
        return fresh

    def _event(self, kind: EventType, user: str, item: str, answer: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        self._numbers += 1
        event_id = f"{answer['request_id']}-{self._numbers}"
        event = {"event_id": event_id, "user_id": user, "item_id": item, "type": kind.name, **more}
        if kind is self._shown:
            event["request_id"] = answer["request_id"]
        if kind.value is not None:
            event["value"] = float(self._draw.randint(1, int(_BEST_VALUE)))
        return event

    def _context(self, names: Sequence[str]) -> dict[str, RawValue]:
        """Values that stood together in some row of the tables."""
        row = self._draw.randrange(self._interactions.height)
        values: dict[str, RawValue] = {}
        for name in names:
            value = self._interactions[name][row]
            values[name] = value.to_list() if isinstance(value, pl.Series) else value
        return values

    async def _rank(self, body: Mapping[str, Any]) -> dict[str, Any]:
        response = await self._client.post("/rank", json=body)
        answer: dict[str, Any] = response.json()
        if response.status_code != httpx.codes.OK or answer["degraded"] is not None:
            raise SkewError(f"POST /rank: status {response.status_code}, answer {response.text[:500]}")
        return answer

    async def _post(self, events: Sequence[Mapping[str, Any]]) -> None:
        response = await self._client.post("/events", json={"events": list(events)})
        if response.status_code not in (httpx.codes.OK, httpx.codes.ACCEPTED) or response.json()["refused_count"]:
            raise SkewError(f"POST /events: status {response.status_code}, answer {response.text[:500]}")
