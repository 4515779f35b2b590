"""A place in the parsed plan that hands out only what the schema found sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from service.experiments.ranges import BucketRange

Place = tuple[str | int, ...]
_LINE_LIMIT = 500


@dataclass(frozen=True, slots=True, eq=False)
class SoundNode:
    """A mapping of the YAML with its path; ``broken`` holds the places the schema complained of and all that contain them."""

    value: dict[Any, Any]
    path: Place
    broken: frozenset[Place]

    @classmethod
    def root(cls, data: Any, refused: Iterable[Place]) -> SoundNode:
        """The whole plan; nothing is handed out if it is no mapping."""
        broken = frozenset(place[:length] for place in refused for length in range(len(place) + 1))
        return cls(data if isinstance(data, dict) else {}, (), broken)

    @property
    def path_text(self) -> str:
        """The place, dotted: ``layers.0.experiments.1``."""
        return ".".join(map(str, self.path)) or "(top level)"

    def at(self, *keys: str | int, reason: str | None = None) -> str:
        """The dotted path of something below, with the reason after a colon if there is one."""
        path = ".".join(map(str, (*self.path, *keys))) or "(top level)"
        return path if reason is None else f"{path}: {reason}"

    def has(self, key: str) -> bool:
        """Whether the key is written, sound or not."""
        return key in self.value

    def is_broken(self, key: str) -> bool:
        """Whether the schema complained of the key or of anything below it."""
        return (*self.path, key) in self.broken

    def get(self, key: str, default: Any = None) -> Any:
        """The value if it is sound, ``default`` if it is not written, None if it is broken."""
        return None if self.is_broken(key) else self.value.get(key, default)

    def child(self, key: str) -> SoundNode:
        """The mapping under a key, with its sound parts; empty if it is no mapping."""
        return self._below(self.value.get(key), key)

    def each(self, key: str) -> list[SoundNode]:
        """The mappings in the list under a key, each with its sound parts."""
        items = self.value.get(key)
        if not isinstance(items, list):
            return []
        return [self._below(item, key, place) for place, item in enumerate(items) if isinstance(item, dict)]

    def holds_mappings(self, key: str) -> bool:
        """Whether ``each`` leaves nothing out."""
        items = self.value.get(key)
        return isinstance(items, list) and all(isinstance(item, dict) for item in items)

    def ranges(self, key: str) -> list[BucketRange]:
        """The bucket ranges under a key; none if broken or not written."""
        written = self.get(key) or []
        pairs = written if all(isinstance(part, list) for part in written) else [written]
        return [BucketRange(start, end) for start, end in pairs]

    def sound_keys(self) -> Iterator[str]:
        """The keys that the schema knows and whose values it accepted."""
        return (key for key in self.value if not self.is_broken(key))

    def _below(self, value: Any, *keys: str | int) -> SoundNode:
        mapping = value if isinstance(value, dict) else {}
        return SoundNode(mapping, (*self.path, *keys), self.broken)


def printable(line: str) -> str:
    """The line without control or invisible characters, cut where it gets too long for a log."""
    safe = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    return safe if len(safe) <= _LINE_LIMIT else f"{safe[:_LINE_LIMIT]}…"
