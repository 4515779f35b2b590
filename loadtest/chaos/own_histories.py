"""Users whose histories name them, and what an answer must hold to be a user's own. Knows nothing of the service's inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.chaos.wire import Reply, post

_OWN_ITEMS = 5
_COUNTS = 16
_FIRST_TIME = 1_735_689_600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer. ``reason`` says why it was degraded, or what is wrong with it."""

    kind: Literal["own", "degraded", "wrong", "server_error", "refused", "other"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OwnHistories:
    """``count`` users. User k's history is of five items that are nobody else's, and as long as 3 + k mod 16 events."""

    count: int

    @property
    def ids(self) -> list[str]:
        """All users' ids."""
        return [self.user(number) for number in range(self.count)]

    def user(self, number: int) -> str:
        """A user's id."""
        return f"chaos-{number}"

    def items(self, number: int) -> list[str]:
        """The history, oldest first."""
        return [f"own-{number}-{place % _OWN_ITEMS}" for place in range(self.version(number))]

    def version(self, number: int) -> int:
        """How many events the history ever had."""
        return 3 + number % _COUNTS

    def events(self, number: int) -> list[tuple[str, str, float]]:
        """User, item and time of each event."""
        return [(self.user(number), item, _FIRST_TIME + place) for place, item in enumerate(self.items(number))]


class OwnAnswers:
    """Requests made beforehand, and the judge of what comes back."""

    def __init__(self, users: OwnHistories, candidates: Sequence[str], timeout_ms: int) -> None:
        self._users = users
        self._marks = [_marks(users, number) for number in range(users.count)]
        asked = {"candidates": list(candidates), "explain": "attention", "timeout_ms": timeout_ms}
        bodies = [json.dumps({"user_id": user, **asked}).encode() for user in users.ids]
        self.requests = [post("/rank", body) for body in bodies]

    def judge(self, number: int, reply: Reply) -> Verdict:
        """Whether the reply to user ``number``'s request is that user's own, degraded without a history, or wrong."""
        if reply.status == 200:
            if all(mark in reply.body for mark in self._marks[number]):
                return Verdict("own")  # nearly all: no parsing
            return self._looked_into(number, reply.body)
        if reply.status >= 500:
            return Verdict("server_error", str(reply.status))
        return Verdict("refused" if reply.status == 429 else "other", str(reply.status))

    def _looked_into(self, number: int, body: bytes) -> Verdict:
        try:
            answer = json.loads(body)
            freshness, degraded = answer["freshness"], answer["degraded"]
            told = (answer.get("attention_history"), freshness["history_version"], freshness["history_length"])
        except (ValueError, KeyError, TypeError):
            return Verdict("wrong", "not an answer")
        if answer.get("user_id") != self._users.user(number):
            return Verdict("wrong", "names another user")
        own = self._users.items(number)
        history, version, length = told
        unscored = degraded is not None and degraded["level"] == "input_order"
        if told == (own, len(own), len(own)) or (unscored and (version, length) == (len(own), len(own)) and history is None):
            return Verdict("own") if degraded is None else Verdict("degraded", degraded["reason"])
        if not history and version is None and length == 0:
            return Verdict("wrong", "no history, and not a word about it") if degraded is None else _degraded(degraded)
        return Verdict("wrong", f"history {str(history)[:80]}, version {version}, length {length}")


def _degraded(degraded: dict[str, str]) -> Verdict:
    return Verdict("degraded", degraded["reason"])


def _marks(users: OwnHistories, number: int) -> tuple[bytes, ...]:
    """What a whole answer of this user holds, letter by letter."""
    history = json.dumps(users.items(number), separators=(",", ":"))
    texts = (
        f'"user_id":"{users.user(number)}"',
        f'"attention_history":{history}',
        f'"history_version":{users.version(number)},',
        f'"history_length":{users.version(number)},',
        '"degraded":null',
    )
    return tuple(text.encode() for text in texts)


def control_values(users: OwnHistories) -> dict[str, bytes]:
    """What the control server keeps per user: the very answer that it is to give."""
    values = {}
    for number, user in enumerate(users.ids):
        freshness = {"history_length": users.version(number), "history_version": users.version(number), "missing": []}
        answer = {"user_id": user, "freshness": freshness, "degraded": None, "attention_history": users.items(number)}
        values[f"control:{user}"] = json.dumps(answer, separators=(",", ":")).encode()
    return values
