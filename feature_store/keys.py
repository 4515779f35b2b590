"""The one home of key shapes: ``{prefix}:user:{<id>}``, ``{prefix}:history:{<id>}``, ``{prefix}:item:{<id>}``.

The braces around the id are literal: they are Redis Cluster's hash tag, so a user's features and history share a slot.
``{``, ``}`` and ``%`` inside an id are percent-encoded; the tag is therefore always the whole id, and two ids never share
a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from feature_store.errors import StoreSettingError

DEFAULT_PREFIX = "rankline"

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


@dataclass(frozen=True, slots=True)
class KeySpace:
    """The keys under one prefix; a second prefix in the same Redis is a separate store.

    Raises:
        StoreSettingError: a prefix that could be mistaken for another part of a key.
    """

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise StoreSettingError(
                "the key prefix must be 1 to 64 letters, digits and the characters . _ : -, and start with a letter or digit"
            )

    def user(self, user_id: str) -> bytes:
        """Key of a user's features."""
        return self._key("user", user_id)

    def history(self, user_id: str) -> bytes:
        """Key of a user's history."""
        return self._key("history", user_id)

    def item(self, item_id: str) -> bytes:
        """Key of an item's features."""
        return self._key("item", item_id)

    def seen(self, user_id: str) -> bytes:
        """Key of the ids of a user's latest events."""
        return self._key("seen", user_id)

    def user_counters(self, user_id: str) -> bytes:
        """Key of the counters of a user's events."""
        return self._key("user-counters", user_id)

    def item_counters(self, item_id: str) -> bytes:
        """Key of the counters of an item's events."""
        return self._key("item-counters", item_id)

    def spool(self, spool_id: str) -> bytes:
        """Key of how far a spool was applied."""
        return self._key("spool", spool_id)

    @property
    def event_log(self) -> bytes:
        """The stream of applied events."""
        return f"{self.prefix}:{{events}}:log".encode()

    @property
    def event_count(self) -> bytes:
        """How many events ever entered the log: a reader finds by it that some were cut off before it came."""
        return f"{self.prefix}:{{events}}:count".encode()

    @property
    def item_changes(self) -> bytes:
        """The stream in which writers announce changed items."""
        return f"{self.prefix}:item-changes".encode()

    @property
    def meta(self) -> bytes:
        """Key of what the last materialization wrote, as JSON."""
        return f"{self.prefix}:meta".encode()

    def _key(self, kind: str, entity_id: str) -> bytes:
        tag = entity_id if entity_id.isalnum() else entity_id.translate(_ESCAPES)
        # A lone surrogate has no UTF-8 form, but a key that is merely absent is the right answer to such an id.
        return f"{self.prefix}:{kind}:{{{tag}}}".encode("utf-8", "surrogatepass")
