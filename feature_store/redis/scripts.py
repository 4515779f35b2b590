"""The server-side steps: Lua sources put together from fragments, and running them whether or not the server knows them yet."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua source and the SHA-1 by which a server that has seen it knows it."""

    source: str
    sha1: str


def _script(*fragments: str) -> Script:
    source = "\n".join((_FOLDER / f"{fragment}.lua").read_text(encoding="utf-8") for fragment in fragments)
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


APPLY_USER = _script("records", "counters", "log", "apply_user")
COUNT_ITEM = _script("records", "counters", "count_item")
LOG_EVENTS = _script("log", "log_events")
MERGE_HISTORY = _script("records", "merge_history")
MOVE_MARK = _script("move_mark")


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """One run of a script: its keys and arguments, the first of them a msgpack value (the server reads no binary in it)."""

    script: Script
    keys: Sequence[bytes]
    arguments: Sequence[bytes]
