"""What is asked and what is answered, inside the service: no wire types, no candidates' original JSON types.

Structs instead of dataclasses: a frozen dataclass of ten fields takes a microsecond to make, and is one more object for the
garbage collector to walk. ``gc=False`` is safe: none of these is ever part of a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from feature_store.encoding.values import RawValue


class RankQuery(msgspec.Struct, frozen=True, gc=False):
    """One validated request. Ids are canonical text; ``deadline`` is a moment of ``time.monotonic()``."""

    request_id: str
    user_id: str
    candidates: Sequence[str]
    deadline: float
    context: Mapping[str, RawValue] = msgspec.field(default_factory=dict)
    candidate_features: Mapping[str, Sequence[RawValue]] = msgspec.field(default_factory=dict)
    history: tuple[str, ...] | None = None
    top_k: int | None = None
    explain_attention: bool = False
    overrides: Mapping[str, str] = msgspec.field(default_factory=dict)
    min_history_version: int | None = None


class Degraded(msgspec.Struct, frozen=True, gc=False):
    """The answer was made with less: what was lost (``level``) and why (``reason``), both from closed lists.

    Levels, worst last: ``stale_history`` (older than asked for), ``default_features`` (scored without stored features),
    ``input_order`` (not scored). ``scored`` of ``total`` candidates have scores: all or none.
    """

    level: str
    reason: str
    scored: int
    total: int


class Freshness(msgspec.Struct, frozen=True, gc=False):
    """How fresh the features behind an answer were: ages of the stored records in milliseconds, None where there is none.

    ``user_known`` is None when the store could not be asked. ``unknown_candidates`` were scored without features of their own,
    or without some that no longer fit; ``stale_candidates`` from outlived ones. Fields of the user and of the request that were
    defaulted are named once: ``missing`` (no value), ``stale`` (beyond the TTL) or ``refused`` (not of the field's kind).
    ``stale`` names item fields, too, that are beyond their TTL for at least one candidate. ``history_behind``: the request
    asked for a newer history than the stored one, which may be absent or unreadable, too, whatever else befell the answer.
    """

    user_known: bool | None
    user_age_ms: int | None
    history_length: int
    history_age_ms: int | None
    history_version: int | None
    history_behind: bool
    unknown_candidates: int
    stale_candidates: int
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    refused: tuple[str, ...]


class ArmTaken(msgspec.Struct, frozen=True, gc=False):
    """One assignment in force for the answer."""

    layer: str
    experiment: str
    arm: str
    bucket: int
    generation: int
    forced: bool


class ModelUsed(msgspec.Struct, frozen=True, gc=False):
    """The exact version that the arm named, whether or not it came to score."""

    name: str
    version: int
    digest: str


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The ranking of one query.

    ``order`` holds places in ``RankQuery.candidates``, best first, cut to top-k. ``scores`` maps a score name to values in the
    order of ``order``; None when nothing was scored. ``attention`` aligns with ``order``: per candidate one weight per
    event of ``history`` (oldest first).
    """

    order: list[int]
    ranked_by: str
    scores: Mapping[str, list[float]] | None
    model: ModelUsed
    arms: tuple[ArmTaken, ...]
    generation: int
    freshness: Freshness
    degraded: Degraded | None
    timings_ms: Mapping[str, float]
    attention: list[list[float]] | None = None
    attention_history: list[str] | None = None
