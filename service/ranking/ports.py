"""What ranking needs from the rest, as protocols: features, a model that scores, a plan that assigns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from feature_store.encoding.encoder import Block, FeatureEncoder, Floats
from feature_store.encoding.values import RawValue
from feature_store.item_table import ItemTable, SharedRows
from service.experiments.plan_source import ActivePlan
from service.ranking.query import Answer
from service.scoring.batch import Scored, ScoringRequest


class FetchedFeatures(Protocol):
    """What one round trip to the online store brought; missing parts are defaults, never an exception."""

    @property
    def user(self) -> Mapping[str, RawValue] | None: ...
    @property
    def user_stale(self) -> tuple[str, ...]: ...
    @property
    def user_written_at(self) -> float | None: ...
    @property
    def history_items(self) -> Sequence[str]: ...
    @property
    def history_written_at(self) -> float | None: ...
    @property
    def history_version(self) -> int | None: ...
    @property
    def items(self) -> Block: ...
    @property
    def item_part(self) -> Floats | SharedRows | None: ...
    @property
    def unknown_items(self) -> int: ...
    @property
    def stale_items(self) -> int: ...
    @property
    def items_stale(self) -> tuple[str, ...]: ...
    @property
    def encoding_ms(self) -> float: ...
    @property
    def unavailable(self) -> str | None: ...
    @property
    def faults(self) -> tuple[str, ...]: ...


class FeatureSource(Protocol):
    """The online features of one request, in one round trip."""

    async def fetch(
        self,
        user_id: str,
        item_ids: Sequence[str],
        encoder: FeatureEncoder,
        timeout_s: float,
        *,
        item_table: ItemTable | None = None,
    ) -> FetchedFeatures: ...


class ServableModel(Protocol):
    """A loaded version: scores requests, possibly together with others'."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def encoder(self) -> FeatureEncoder: ...
    @property
    def score_names(self) -> tuple[str, ...]: ...
    @property
    def uses_history(self) -> bool: ...
    @property
    def has_attention(self) -> bool: ...
    @property
    def item_table(self) -> ItemTable | None: ...
    @property
    def reads_items_beside_table(self) -> bool: ...

    async def score(self, request: ScoringRequest, deadline: float) -> Scored: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Plan and models that belong together. A request reads it once, so no answer mixes two generations."""

    active: ActivePlan
    models: Mapping[str, ServableModel]
    field_names: frozenset[str]
    """Context and candidate fields that at least one loaded model knows."""


class SnapshotSource(Protocol):
    """Holds the snapshot in force."""

    @property
    def snapshot(self) -> Snapshot: ...


class RankObserver(Protocol):
    """Told of every answer; must not raise or block."""

    def answered(self, answer: Answer, candidates: int) -> None: ...
