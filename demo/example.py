"""An example request from the data itself, and the checks that ``make smoke`` makes on its answer."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from demo.server import Server

Request = dict[str, Any]


_BEST_VALUE = 5
ENOUGH_FOR_BOTH_ARMS = 20
"""Of so many users, all in one of two equal arms is one chance in half a million."""


class SmokeFailedError(Exception):
    """An answer is not what it must be."""


def example_requests(views: Path, count: int, candidates: int = 10) -> list[Request]:
    """Requests for the users with the most interactions, each with random items; deterministic."""
    described = yaml.safe_load(views.read_text(encoding="utf-8"))
    user_key, item_key = described["user"]["key"], described["item"]["key"]
    interactions = _read(views.parent / described["tables"]["interactions"])
    known = _read(views.parent / described["tables"]["users"]).select(user_key)
    counted = interactions.join(known, on=user_key, how="semi")[user_key].value_counts(sort=True, name="rows")
    users = counted.head(count)[user_key].to_list()
    items = _read(views.parent / described["tables"]["items"])[item_key].to_list()
    draw = random.Random(7)
    context = _context(described, interactions)
    requests = [{"user_id": user, "candidates": draw.sample(items, min(candidates, len(items)))} for user in users]
    return [request | ({"context": context} if context else {}) for request in requests]


def id_columns(views: Path) -> tuple[str, str]:
    """``FILE:COLUMN`` of the users' and of the items' ids."""
    described = yaml.safe_load(views.read_text(encoding="utf-8"))
    tables = described["tables"]
    users, items = (views.parent / tables[name] for name in ("users", "items"))
    return f"{users}:{described['user']['key']}", f"{items}:{described['item']['key']}"


def _read(path: Path) -> pl.DataFrame:
    """A table as text where it is CSV: ids keep their zeros."""
    return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)


def _context(described: dict[str, Any], interactions: pl.DataFrame) -> dict[str, Any]:
    """Request context as the last interaction had it, each value in its field's kind."""
    fields = [field for field in described.get("context", []) if field.get("per", "request") == "request"]
    last = interactions.tail(1).to_dicts()[0]
    return {field["name"]: _value(field, last[field.get("column") or field["name"]]) for field in fields}


def _value(field: dict[str, Any], value: Any) -> Any:
    if value is None:
        return None
    if field["kind"] == "number":
        return float(value)
    if field["kind"] == "categories":
        return value.split(field["separator"]) if isinstance(value, str) else list(value)
    return value if isinstance(value, int | str) else str(value)


def curl_of(server: Server, request: Request, path: str = "/rank") -> str:
    """The request as a command line to paste."""
    return f"curl -s {server.url}{path} -H 'Content-Type: application/json' -d '{json.dumps(request)}'"


def check_answers(server: Server, requests: list[Request]) -> None:
    """Ask everything once and check what a user relies on.

    Raises:
        SmokeFailedError: naming the first answer that is wrong, and how.
    """
    models: set[str] = set()
    for request in requests:
        answer = server.rank(request | {"explain": "attention"})
        _check(answer, request)
        models.add(answer["model"]["name"])
    if len(requests) >= ENOUGH_FOR_BOTH_ARMS and models != {"deepfm", "din"}:
        raise SmokeFailedError(f"{len(requests)} users were ranked by {sorted(models)}, not by both arms' models")
    metrics = server.get("/metrics").decode()
    if "rankline_answer_seconds_count" not in metrics:
        raise SmokeFailedError("GET /metrics does not count answers")


def history_event(views: Path, user: Any, item: Any) -> Request | None:
    """An event that enters the user's history, of the first declared type that does; None where the views declare none."""
    described = yaml.safe_load(views.read_text(encoding="utf-8"))
    where = described.get("history", {}).get("where")
    for kind in described.get("events", {}).get("types", []):
        row = {**kind.get("sets", {}), **({kind["value"]: _BEST_VALUE} if "value" in kind else {})}
        if where is None or _holds(where, row.get(where["column"])):
            event = {"event_id": uuid.uuid4().hex, "user_id": user, "item_id": item, "type": kind["name"]}
            return {**event, **({"value": _BEST_VALUE} if "value" in kind else {})}
    return None


def _holds(condition: dict[str, Any], value: Any) -> bool:
    if value is None:
        return False
    return bool(value >= condition["at_least"] if "at_least" in condition else value == condition.get("equals", 1))


def check_event(server: Server, views: Path, request: Request) -> None:
    """Tell the service of an event, and check that the very next ranking has it in the user's history.

    Raises:
        SmokeFailedError: it has not.
    """
    event = history_event(views, request["user_id"], request["candidates"][0])
    if event is None:
        return
    told = server.post("/events", event)
    version = told["users"][0]["history_version"]
    answer = server.rank(request | {"min_history_version": version})
    if not told["applied"] or answer["degraded"] is not None or answer["freshness"]["history_version"] != version:
        raise SmokeFailedError(f"user {request['user_id']}: {told} was followed by {answer['freshness']}, {answer['degraded']}")


def _check(answer: dict[str, Any], request: Request) -> None:
    who = f"user {request['user_id']}"
    scores = [item["score"] for item in answer["items"]]
    if sorted(map(str, request["candidates"])) != sorted(str(item["id"]) for item in answer["items"]):
        raise SmokeFailedError(f"{who}: the answer does not hold every candidate once")
    if answer["degraded"] is not None:
        raise SmokeFailedError(f"{who}: degraded: {answer['degraded']}")
    if not all(0 < score < 1 for score in scores) or scores != sorted(scores, reverse=True):
        raise SmokeFailedError(f"{who}: scores are not falling probabilities: {scores}")
    if not answer["freshness"]["user_known"]:
        raise SmokeFailedError(f"{who}: features did not come from the store")
    if answer["model"]["name"] == "din" and answer["freshness"]["history_length"]:
        _check_attention(answer, who)


def _check_attention(answer: dict[str, Any], who: str) -> None:
    """One weight per event; they sum to one (softmax) or less (gates)."""
    for item in answer["items"]:
        weights = item["attention"]
        if len(weights) != answer["freshness"]["history_length"] or not 0 < sum(weights) <= 1 + 1e-3:
            raise SmokeFailedError(f"{who}, item {item['id']}: attention {weights} is not a weight for each event")
