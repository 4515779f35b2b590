"""What a strict schema found wrong with a YAML, in words for those who wrote it."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_UNION_TAGS = ("category", "categories", "number", "vocabulary", "hash")
_PLAIN_REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is no known key",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "union_tag_not_found": "has no {discriminator}",
    "union_tag_invalid": "{discriminator} is {tag!r}, but must be one of {expected_tags}",
}


def readable_problems(error: ValidationError) -> list[str]:
    """One line per problem of a pydantic error: ``path.to.key: what is wrong``; union tags are left out of the path."""
    return [f"{_path(problem)}: {_reason(problem)}" for problem in error.errors(include_url=False, include_input=False)]


def _path(problem: ErrorDetails) -> str:
    """Keys and places joined by dots. A tag stands behind a list's place, or behind ``encode``."""
    parts = problem["loc"]
    before = (None, *parts)
    kept = [
        str(part)
        for part, previous in zip(parts, before, strict=False)
        if not (part in _UNION_TAGS and (isinstance(previous, int) or previous == "encode"))
    ]
    return ".".join(kept) or "(top level)"


def _reason(problem: ErrorDetails) -> str:
    plain = _PLAIN_REASONS.get(problem["type"])
    if plain is None:
        return problem["msg"].removeprefix("Value error, ")
    return plain.format(**problem.get("ctx", {}))
