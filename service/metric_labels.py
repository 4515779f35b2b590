"""Values of metric labels, so bounded that no client can add a series at will."""

from __future__ import annotations

MAX_LABEL_VALUES = 100
OTHER = "other"


class CappedLabel:
    """Lets the first ``MAX_LABEL_VALUES`` values through; later ones count as ``other``."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value to use as a label."""
        if value in self._seen:
            return value
        if len(self._seen) >= MAX_LABEL_VALUES:
            return OTHER
        self._seen.add(value)
        return value
