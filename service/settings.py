"""Settings of the process: read once from ``RANKLINE_*`` variables (``RANKLINE_STORE__URL``), then passed down, frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RequestLimits(_Group):
    """What one request may ask for."""

    max_body_bytes: int = Field(default=1_048_576, ge=1_024)
    body_timeout_s: float = Field(default=10.0, gt=0, le=600)
    max_candidates: int = Field(default=5_000, ge=1, le=100_000)
    default_timeout_ms: int = Field(default=500, ge=1, le=60_000)
    max_timeout_ms: int = Field(default=10_000, ge=1, le=60_000)


class StoreSettings(_Group):
    """Where features are. Without ``url`` the process starts an embedded Valkey that keeps its data in ``directory``."""

    url: SecretStr | None = None
    directory: Path = Path("var/store")
    prefix: str = Field(default="rankline", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    connect_timeout_ms: int = Field(default=50, ge=1, le=10_000)
    read_timeout_ms: int = Field(default=50, ge=1, le=10_000)
    max_connections: int = Field(default=32, ge=1, le=1_000)
    item_cache_capacity: int = Field(default=200_000, ge=1)
    item_cache_ttl_s: float = Field(default=300.0, gt=0)
    unknown_item_ttl_s: float = Field(default=10.0, gt=0)


class ModelSettings(_Group):
    """Where published models are and how they run."""

    repository: Path = Path("var/models")
    fallback: str | None = Field(default=None, description="Serves everybody while there is no usable plan: din@latest")
    provider: Literal["auto", "cuda", "cpu"] = "auto"
    intra_op_threads: int | None = Field(default=None, ge=1, le=256)
    collapsed: bool = Field(default=True, description="Score with a version's collapsed forms, where it has them")
    scorer_threads: int = Field(default=1, ge=1, le=64)
    max_batch_rows: int = Field(default=4_096, ge=1)
    max_queue_rows: int = Field(default=65_536, ge=1)
    scorer: Literal["auto", "inline", "process"] = Field(
        default="auto",
        description="Score in each worker, or in one process for all (auto: where several workers would share a GPU)",
    )
    scorer_address: str | None = Field(default=None, description="Where the scorer process listens; handed down by serve")
    scorer_slots: int = Field(default=512, ge=1, le=4_096, description="Requests under way between a worker and the scorer")


class PlanSettings(_Group):
    """The experiment plan and the state that survives restarts (generation, last good plan)."""

    path: Path = Path("var/plan.yaml")
    state_directory: Path = Path("var/state")
    poll_s: float = Field(default=1.0, gt=0, le=3_600)


class EventSettings(_Group):
    """Live events: where they are kept safe, which times are taken, and how much at once.

    Each worker process has its own spool in a folder below ``spool_directory``. A request waits ``apply_timeout_ms`` for the
    store to apply its events, and not at all while more than ``max_backlog`` events wait already. ``log_events``,
    ``remembered_*`` and ``counters_s`` bound what clients can make the store hold (docs/features.md, "Memory").
    """

    spool_directory: Path = Path("var/spool")
    spool_capacity_bytes: int = Field(default=256 * 1_048_576, ge=1_048_576)
    retain_s: float = Field(default=3_600.0, ge=0, description="Applied events are kept so long, for a store that lost them")
    retained_bytes: int = Field(default=256 * 1_048_576, ge=0, description="Of them at most so much is kept")
    spool_timeout_s: float = Field(default=5.0, gt=0, le=600, description="For the disk to keep events safe")
    apply_timeout_ms: int = Field(default=250, ge=0, le=60_000)
    future_tolerance_s: float = Field(default=60.0, ge=0, le=86_400)
    max_age_s: float | None = Field(default=30 * 86_400.0, ge=0, description="none: as old as 1970")
    max_events: int = Field(default=1_000, ge=1, le=10_000, description="In one request")
    max_backlog: int = Field(default=1_000, ge=0)
    max_requests: int = Field(default=256, ge=1, le=10_000, description="Of events, at work at once; more get 503")
    log_events: int = Field(default=1_000_000, ge=1, description="The event log in the store keeps about so many, of all users")
    remembered_ids: int = Field(default=4_096, ge=1, le=100_000, description="Of each user, to know an event sent again")
    remembered_s: int = Field(default=86_400, ge=60, description="After a user's last event; then an event sent again is new")
    counters_s: int = Field(default=90 * 86_400, ge=60, description="After a user's or an item's last event")

    @field_validator("max_age_s", mode="before")
    @classmethod
    def _none_is_no_limit(cls, value: Any) -> Any:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _what_may_come_again_is_remembered(self) -> Self:
        if self.remembered_s <= self.retain_s:
            raise ValueError("remembered_s must be longer than retain_s: what a spool still holds may be applied again")
        if self.remembered_ids < self.max_events:
            raise ValueError("remembered_ids must not be below max_events: a whole request may be sent again")
        return self


class ExposureSettings(_Group):
    """The exposure log: every answer as it went out, in files of each process's own. Without ``directory`` there is none.

    ``fsync``: none, at the end of a file (rotation), or every ``fsync_s``, too (interval). With a ``key`` users are named by a
    hash under it (docs/exposures.md).
    """

    directory: Path | None = None
    capacity_bytes: int = Field(default=64 * 1_048_576, ge=1_048_576, description="Waits in memory at most")
    rotate_bytes: int = Field(default=256 * 1_048_576, ge=65_536)
    rotate_s: float = Field(default=300.0, gt=0)
    fsync: Literal["none", "rotation", "interval"] = "rotation"
    fsync_s: float = Field(default=1.0, ge=0.05, le=3_600)
    keep_free_bytes: int = Field(default=256 * 1_048_576, ge=0, description="With less free space nothing is written")
    close_timeout_s: float = Field(default=3.0, ge=0, le=600, description="For what waits when the process ends")
    key: SecretStr | None = Field(default=None, min_length=16)

    @field_validator("key")
    @classmethod
    def _fits_the_hash(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) > 64:
            raise ValueError("a key of BLAKE2b has at most 64 bytes")
        return value


class Settings(BaseSettings):
    """All settings of the service."""

    model_config = SettingsConfigDict(
        env_prefix="RANKLINE_", env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    limits: RequestLimits = RequestLimits()
    store: StoreSettings = StoreSettings()
    models: ModelSettings = ModelSettings()
    plan: PlanSettings = PlanSettings()
    events: EventSettings = EventSettings()
    exposures: ExposureSettings = ExposureSettings()
    views: Path | None = Field(default=None, description="The feature views; without them no live events are taken")
    admin_token: SecretStr | None = Field(default=None, min_length=16)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics: bool = Field(default=True, description="false: rankings are not counted, /metrics shows the process only")
    drain_timeout_s: int = Field(default=15, ge=1, le=600)
